"""The linear trainers on prepared data, the protocol `shift`, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from winnow import registry
from winnow.errors import UserError
from winnow.registry import Params
from winnow.train.engine.linear import class_means, contrastive_minimiser, cross_covariance

RNG = np.random.default_rng(0)
N, D, CLASSES = 60, 5, 3


def vectors() -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 3, d) float32 and labels: images and captions that share a part, and class prompts."""
    labels = np.arange(N) % CLASSES
    prompts = RNG.normal(size=(CLASSES, D))
    shared = prompts[labels] + 0.3 * RNG.normal(size=(N, D))
    images, captions = (shared + 0.1 * RNG.normal(size=(N, D)) for _ in range(2))
    return np.stack([images, captions, prompts[labels]], axis=1).astype(np.float32), labels


def task(folder: Path, **changes: Any) -> Any:
    """Return what a linear trainer reads of a task, on the first 40 rows and measured on the others."""
    values, labels = changes.pop("data", None) or vectors()
    images = torch.from_numpy(values)[..., None].permute(0, 3, 1, 2)
    fields = {
        "pixels": images, "labels": torch.from_numpy(labels), "rows": torch.arange(40), "weights": None,
        "rounds": 1, "classes": CLASSES, "label": "job s0", "out": folder / "s0",
        "model_params": registry.load("models", "linear", "test").params(),
        "heldout": lambda: {"test": images[40:]},
    }  # fmt: skip
    return SimpleNamespace(**(fields | changes))


def train(name: str, given: Any, **params: Any) -> np.ndarray:
    plugin = registry.load("train", name, "test")
    assert plugin.function(plugin.params(**params), given) == {"precision_used": "float64"}
    logits: np.ndarray = np.load(given.out / "test_logits.npy")
    return logits


@pytest.mark.parametrize("prompt", ["label", "mean"])
@pytest.mark.parametrize("rank", [1, 2, None])
def test_contrastive_logits_are_inner_products_of_features(
    tmp_path: Path, prompt: str, rank: int | None
) -> None:
    values, labels = vectors()
    model = registry.load("models", "linear", "test").params(rank=rank)
    logits = train("linear_mmcl", task(tmp_path, data=(values, labels), model_params=model), prompt=prompt)
    x, t, p = values[:40].astype(np.float64).transpose(1, 0, 2)
    image, text = contrastive_minimiser(cross_covariance(x, t), rank or D, 1.0)
    source = p if prompt == "label" else t
    for row in range(20):
        of_image = image @ (values[40 + row, 0] - x.mean(axis=0))
        for label in range(CLASSES):
            of_text = text @ (source[labels[:40] == label].mean(axis=0) - t.mean(axis=0))
            assert logits[row, label] == pytest.approx(of_image @ of_text, rel=1e-4, abs=1e-6)
    saved = load_file(tmp_path / "s0/model.safetensors")
    assert saved["image"].shape == saved["text"].shape == (rank or D, D)


def test_supervised_solvers(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    values, labels = vectors()
    x, y, held = values[:40, 0].astype(np.float64), labels[:40], values[40:, 0]
    given = {"data": (values, labels)}
    least = train("linear_supervised", task(tmp_path / "a", **given), solver="min_norm")
    design = np.column_stack([x, np.ones(40)])
    theirs = np.linalg.lstsq(design, np.eye(CLASSES)[y], rcond=None)[0]
    assert least == pytest.approx(np.column_stack([held, np.ones(20)]) @ theirs, abs=1e-5)
    logistic = train("linear_supervised", task(tmp_path / "b", **given), ridge=0.01, iterations=5000)
    peer = LogisticRegression(C=1 / (0.01 * 40), tol=1e-10, max_iter=5000).fit(x, y)
    ours, scores = (v - v.mean(axis=1, keepdims=True) for v in (logistic, peer.decision_function(held)))
    assert ours == pytest.approx(scores, abs=2e-2)
    means = train("linear_supervised", task(tmp_path / "c", **given), solver="mean_difference")
    centred = class_means(x - x.mean(axis=0), y, CLASSES)
    assert means == pytest.approx((held - x.mean(axis=0)) @ centred.T, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixels": torch.zeros(60, 3, 8, 8)}, "kind: vectors"),
        ({"weights": torch.ones(40)}, "no weights"),
        ({"rounds": 2}, "no weights or rounds"),
        ({"model_params": Params()}, "model `linear`"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    for name in ("linear_mmcl", "linear_supervised"):
        with pytest.raises(UserError, match=message):
            train(name, task(tmp_path, **changes))


def test_a_rank_above_the_dimensions_is_refused(tmp_path: Path) -> None:
    model = registry.load("models", "linear", "test").params(rank=6)
    with pytest.raises(UserError, match="rank 6; accepted: 1 to 5"):
        train("linear_mmcl", task(tmp_path, model_params=model))


def test_a_class_without_examples_is_scored(tmp_path: Path) -> None:
    values, labels = vectors()
    given = {"data": (values, np.where(labels == 2, 1, labels)), "classes": 4}
    for name in ("linear_mmcl", "linear_supervised"):
        assert np.isfinite(train(name, task(tmp_path, **given))).all()


def test_the_linear_model_is_a_linear_map() -> None:
    model = registry.load("models", "linear", "test")
    encoder = model.function(model.params(rank=4), 3, 5)
    a, b = torch.rand(2, 3, 5, 5), torch.rand(2, 3, 5, 5)
    assert encoder(a).shape == (2, 4)
    assert torch.allclose(encoder(a) + encoder(2 * b), encoder(a + 2 * b), atol=1e-5)
    assert model.function(model.params(), 3, 5)(a).shape == (2, 75)


def shift(folder: Path, labels: dict[str, np.ndarray]) -> dict[str, tuple[float, int]]:
    data = SimpleNamespace(splits=tuple(labels), labels=labels.__getitem__)
    view = SimpleNamespace(data=data, read=folder.joinpath)
    found: dict[str, tuple[float, int]] = registry.load("evaluate", "shift", "test").function(Params(), view)
    return found


def test_shift_on_a_case_worked_by_hand(tmp_path: Path) -> None:
    np.save(tmp_path / "test_logits.npy", np.eye(3)[[0, 1, 2, 0]])
    np.save(tmp_path / "validation_logits.npy", np.eye(3)[[0, 1, 2, 0, 0]])
    labels = {"test": np.array([0, 0, 0, 1]), "validation": np.array([0, 1, 2, 0, 1])}
    assert shift(tmp_path, labels) == {
        "test_accuracy": (0.25, 4),
        "validation_accuracy": (0.8, 5),
        "chance_accuracy": (0.75, 4),
        "accuracy_drop": (pytest.approx(0.55), 4),
    }
    assert set(shift(tmp_path, {"test": labels["test"]})) == {"test_accuracy", "chance_accuracy"}
