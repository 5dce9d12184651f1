"""Signals of a supervised proxy: exact gradients, held-out folds, recorded histories, DeepFool."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_signals import FakeData
from torch import nn
from torch.nn import functional

from winnow import registry
from winnow.errors import UserError
from winnow.registry import Params
from winnow.signals.engine.deepfool import distances, perturbation
from winnow.signals.engine.view import Proxy, SignalView
from winnow.train.engine.folds import folds_of
from winnow.train.engine.space import Space


class Small(nn.Module):
    """A linear encoder and a linear classifier."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU())
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x))  # type: ignore[no-any-return]


@dataclass
class FakeProxy:
    seed: int
    data: FakeData = field(default_factory=FakeData)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    folder: Path = Path("proxy")

    space: Space = field(default_factory=lambda: Space.plain(FakeData(), torch.device("cpu")))  # type: ignore[arg-type]

    def load(self) -> nn.Module:
        return Small(self.seed).eval()


def compute(name: str, models: int = 1, **params: int) -> np.ndarray:
    plugin = registry.load("signals", name, "test")
    view = SignalView(
        FakeData(),  # type: ignore[arg-type]
        0,
        0,
        tuple(FakeProxy(seed) for seed in range(models)),  # type: ignore[misc]
    )
    found: np.ndarray = plugin.function(plugin.params(**params), view)
    return found


def inputs() -> torch.Tensor:
    return (torch.from_numpy(FakeData().pool_images()).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25


def test_norms_are_those_of_autograd_one_example_at_a_time() -> None:
    norms = compute("gradient_norms", 2, proxies=2)
    short = compute("residual_norms", 2, proxies=2)
    labels = torch.from_numpy(FakeData().pool_labels())
    for column in range(2):
        model = Small(column)
        for i in range(0, 60, 7):
            logits = model(inputs()[i : i + 1])
            loss = functional.cross_entropy(logits, labels[i : i + 1])
            weight, bias = torch.autograd.grad(loss, [model.head.weight, model.head.bias], retain_graph=True)
            expected = torch.sqrt(weight.square().sum() + bias.square().sum())
            assert norms[i, column] == pytest.approx(float(expected), rel=1e-4)
            onehot = functional.one_hot(labels[i], 3)
            delta = (torch.softmax(logits, 1)[0] - onehot).norm()
            assert short[i, column] == pytest.approx(float(delta), rel=1e-4)


def test_features_and_logits_belong_together() -> None:
    hidden, logits = compute("features"), compute("logits")
    assert hidden.shape == (60, 6) and logits.shape == (60, 3)
    head = Small(0).head
    expected = head(torch.from_numpy(hidden)).detach().numpy()
    assert np.allclose(expected, logits, atol=1e-5)


def test_heldout_rows_come_from_the_proxy_that_left_them_out() -> None:
    found = compute("heldout_logits", 3, folds=3)
    parts = folds_of(FakeData().pool_labels(), 3, 0, 0)
    for k in range(3):
        assert np.allclose(found[parts == k], Small(k)(inputs()).detach().numpy()[parts == k], atol=1e-5)


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_folds_are_even_within_classes_and_repeat(folds: int) -> None:
    labels = np.repeat([0, 1, 2], [10, 31, 7])
    parts = folds_of(labels, folds, 1, 2)
    assert (parts == folds_of(labels, folds, 1, 2)).all()
    assert (parts != folds_of(labels, folds, 1, 3)).any()
    for label in range(3):
        counts = np.bincount(parts[labels == label], minlength=folds)
        assert counts.max() - counts.min() <= 1


def test_a_proxy_without_a_classifier_is_refused() -> None:
    proxy = SimpleNamespace(load=lambda: nn.Linear(1, 1), folder="x", data=FakeData(), device="cpu")
    view = SignalView(FakeData(), 0, 0, (proxy,))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="supervised"):
        registry.load("signals", "logits", "test").function(Params(), view)


def test_images_are_shown_to_a_proxy_as_those_it_was_trained_on(tmp_path: Path) -> None:
    other = FakeData(mean=(0.3,), std=(0.1,))
    own, others = (Proxy(tmp_path, 0, FakeData(), "cpu", seen).space for seen in (None, other))  # type: ignore[arg-type]
    pixels = torch.rand(2, 1, 3, 3)
    assert torch.allclose(own(pixels), (pixels - 0.5) / 0.25)
    assert torch.allclose(others(pixels), (pixels - 0.3) / 0.1)


def test_a_history_that_was_not_recorded_says_what_to_set(tmp_path: Path) -> None:
    view = SignalView(FakeData(), 0, 0, (Proxy(tmp_path, 0, FakeData(), "cpu"),))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="record: true"):
        registry.load("signals", "loss_history", "test").function(Params(), view)


def test_deepfool_is_the_distance_to_the_nearest_boundary_of_a_linear_classifier() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    images = torch.randn(30, 1, 4, 4)
    found = perturbation(model, images, 50, 4, 0.0)
    weight, logits = model[1].weight.detach(), model(images).detach()  # type: ignore[union-attr]
    for i in range(30):
        top = int(logits[i].argmax())
        others = [k for k in range(4) if k != top]
        distances = [(logits[i, top] - logits[i, k]) / (weight[top] - weight[k]).norm() for k in others]
        assert float(found[i]) == pytest.approx(float(min(distances)), rel=2e-2, abs=1e-3)


def test_deepfool_changes_the_class_and_does_not_depend_on_the_batch() -> None:
    model, images = Small(1), inputs()[:12]
    together = perturbation(model, images, 50, 3, 0.02)
    alone = torch.cat([perturbation(model, image[None], 50, 3, 0.02) for image in images])
    assert torch.allclose(together, alone, rtol=1e-4)
    assert (together > 0).all()
    found = distances(FakeProxy(1), 50, 3, 0.02)  # type: ignore[arg-type]
    assert np.isfinite(found).all() and (found > 0).all()


def test_an_image_without_a_gradient_is_far_away() -> None:
    model, images = Small(1), inputs()[:12]
    with torch.no_grad():
        dead = model.encoder(images).sum(dim=1) == 0
    norms = perturbation(model, images, 50, 3, 0.02)
    assert dead.any() and torch.isinf(norms[dead]).all() and torch.isfinite(norms[~dead]).all()
