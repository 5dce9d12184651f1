"""The probe of shifts: the encoder is asked, not the classifier, and test labels choose nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from winnow import registry
from winnow.evaluate.engine.corruptions import corrupted
from winnow.evaluate.engine.view import EvaluationView
from winnow.evaluate.linear_probe import standardise
from winnow.evaluate.shift_probe import ShiftProbeParams, evaluate
from winnow.models.engine.logistic import fit_logistic, predict

SIZES = {"train": 240, "test": 60, "validation": 90}


def examples(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images whose mean colour is their class's, uint8 (n, 8, 8, 3), and labels; tests are darker."""
    random = np.random.default_rng(list(SIZES).index(split))
    labels = np.arange(SIZES[split]) % 3
    colours = np.full((3, 3), 60) + 120 * np.eye(3)
    level = colours[labels][:, None, None] * (0.6 if split == "test" else 1.0)
    return (level + random.normal(0, 40, (len(labels), 8, 8, 3))).clip(0, 255).astype(np.uint8), labels


def encode(images: np.ndarray) -> np.ndarray:
    return np.asarray(images.reshape(len(images), -1, 3).mean(axis=1), dtype=np.float32)


def encoded(split: str) -> np.ndarray:
    return encode(examples(split)[0])


def view(splits: tuple[str, ...] = tuple(SIZES), **labels: np.ndarray) -> EvaluationView:
    known = {split: labels.get(split, examples(split)[1]) for split in splits}
    data = SimpleNamespace(
        splits=splits,
        labels=known.__getitem__,
        images=lambda split: examples(split)[0],
        classes=("a", "b", "c"),
    )
    random = np.random.default_rng(0)
    return EvaluationView(data, Path, random, encoded, encode, encode, encode, encode)  # type: ignore[arg-type]


def test_it_is_logistic_regression_on_the_training_features() -> None:
    found = evaluate(ShiftProbeParams(penalties=(1e-2,)), view())
    train, labels = examples("train")
    own, other = standardise(encode(train), encode(examples("validation")[0]))
    expected = predict(other, fit_logistic(own, labels, 3, 1e-2, 100)) == examples("validation")[1]
    assert found["validation_accuracy"] == (expected.mean(), 90)
    assert found["accuracy_drop"][0] == pytest.approx(expected.mean() - found["test_accuracy"][0])
    assert found["chance_accuracy"] == (pytest.approx(1 / 3), 60)


def test_test_labels_choose_nothing() -> None:
    wrong = (examples("test")[1] + 1) % 3
    honest, turned = evaluate(ShiftProbeParams(), view()), evaluate(ShiftProbeParams(), view(test=wrong))
    assert honest["validation_accuracy"] == turned["validation_accuracy"]
    assert turned["test_accuracy"][0] < 0.5 < honest["test_accuracy"][0]


def test_corruptions_are_scored_by_the_same_probe() -> None:
    params = ShiftProbeParams(corruptions=("greyscale", "noise"), shifted=30, penalties=(1e-2,))
    found = evaluate(params, view(("train", "test")))
    assert "validation_accuracy" not in found and "accuracy_drop" not in found
    names = [f"{kind}_{strength}_accuracy" for kind in ("greyscale", "noise") for strength in range(1, 6)]
    assert found["shifted_accuracy"] == (pytest.approx(np.mean([found[name][0] for name in names])), 30)
    shown = np.linspace(0, 59, 30).round().astype(int)
    images, labels = examples("test")[0][shown], examples("test")[1][shown]
    own, other = standardise(encode(examples("train")[0]), encode(corrupted(images, "greyscale", 3)))
    expected = predict(other, fit_logistic(own, examples("train")[1], 3, 1e-2, 100)) == labels
    assert found["greyscale_3_accuracy"] == (expected.mean(), 30)
    assert found["greyscale_5_accuracy"][0] == pytest.approx(1 / 3, abs=0.15), "grey images have no colour"


def test_it_asks_any_model() -> None:
    protocol = registry.load("evaluate", "shift_probe", "test")
    assert protocol.needs(protocol.params()) == {"model": {}}
