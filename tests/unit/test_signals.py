"""Signals: embeddings whose inner products are expected cosines, latent classes from three sources."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from winnow.errors import UserError
from winnow.signals.embeddings import EmbeddingParams
from winnow.signals.embeddings import compute as embed
from winnow.signals.engine.view import SignalView
from winnow.signals.latent_classes import LatentClassParams
from winnow.signals.latent_classes import compute as latent_classes
from winnow.train.engine.options import AugmentParams
from winnow.train.engine.space import Space


@dataclass
class FakeData:
    """Eight-pixel images in memory, with the interface of a prepared dataset."""

    n: int = 60
    name: str = "fake"
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    classes: tuple[str, ...] = ("a", "b", "c")

    def pool_images(self) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, size=(self.n, 8, 8, 1), dtype=np.uint8)

    def pool_labels(self) -> np.ndarray:
        return np.arange(self.n) % 3


class Two(nn.Module):
    """An encoder and a projection, both linear."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 12))
        self.projection = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.projection(self.encoder(x))  # type: ignore[no-any-return]


def view(**signals: np.ndarray) -> SignalView:
    device = torch.device("cpu")
    proxy = SimpleNamespace(load=Two, device=device, space=Space.plain(FakeData(), device))  # type: ignore[arg-type]
    return SignalView(FakeData(), 0, 0, (proxy,), signals)  # type: ignore[arg-type]


def test_plain_embeddings_are_unit_outputs_of_the_chosen_layer() -> None:
    projected = embed(EmbeddingParams(layer="projection"), view())
    backbone = embed(EmbeddingParams(layer="backbone"), view())
    assert projected.shape == (60, 5)
    assert backbone.shape == (60, 12)
    assert np.allclose(np.linalg.norm(projected, axis=1), 1, atol=1e-5)
    x = (torch.from_numpy(FakeData().pool_images()).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    expected = nn.functional.normalize(Two()(x), dim=1).detach().numpy()
    assert np.allclose(projected, expected, atol=1e-5)


def test_inner_products_estimate_expected_cosines_of_independent_views() -> None:
    """The mean embedding's inner product equals the mean cosine over all pairs of draws, by linearity."""
    settings = AugmentParams(crop_min=0.5, flip=True, colour=0.3, greyscale=0)
    averaged = embed(EmbeddingParams(augment_views=3, augment=settings), view())
    single = embed(EmbeddingParams(augment_views=1, augment=settings), view())
    assert (np.linalg.norm(averaged, axis=1) < 0.9999).all()
    assert np.allclose(np.linalg.norm(single, axis=1), 1, atol=1e-5)
    assert not np.allclose(averaged, embed(EmbeddingParams(), view()), atol=1e-3)


def test_augmented_embeddings_repeat_for_a_repetition() -> None:
    params = EmbeddingParams(augment_views=2)
    assert (embed(params, view()) == embed(params, view())).all()


def clusters() -> np.ndarray:
    centres = np.eye(3, 5, dtype=np.float32) * 4
    noise = np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32) * 0.3
    return centres[np.arange(60) % 3] + noise


@pytest.mark.parametrize("source", ["kmeans", "few_labels", "labels"])
def test_every_source_finds_separated_classes(source: str) -> None:
    params = LatentClassParams(source=source, labelled=15)  # type: ignore[arg-type]
    found = latent_classes(params, view(embeddings=clusters()))
    assert found.dtype == np.int64
    truth = np.arange(60) % 3
    groups = [set(found[truth == k]) for k in range(3)]
    assert all(len(group) == 1 for group in groups)
    assert len(set.union(*groups)) == 3


def test_more_clusters_than_examples_is_refused() -> None:
    with pytest.raises(UserError, match="k is 61"):
        latent_classes(LatentClassParams(k=61), view(embeddings=clusters()))
