"""Calibration errors and temperatures against closed values and a loop over bins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from winnow.evaluate.calibrated_accuracy import (
    CalibratedAccuracyParams,
    best_temperature,
    calibration_error,
    evaluate,
)


def test_two_bins_by_hand() -> None:
    """Confidence 0.75 four times, three of them right, and 0.9 twice, one right."""
    logits = np.log([[0.75, 0.25]] * 4 + [[0.9, 0.1]] * 2)
    labels = np.array([0, 0, 0, 1, 0, 1])
    assert calibration_error(logits, labels, 10) == pytest.approx(abs(1 - 1.8) / 6)
    assert calibration_error(logits[:4], labels[:4], 10) == pytest.approx(0)


def test_errors_are_those_of_a_loop_over_bins() -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(500, 4)) * 2, random.integers(4, size=500)
    shares = softmax(logits, axis=1)
    confidence, right = shares.max(1), shares.argmax(1) == labels
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(logits, labels, 15) == pytest.approx(expected)


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_the_temperature_undoes_a_scale(scale: float) -> None:
    random = np.random.default_rng(1)
    logits = random.normal(size=(20_000, 3))
    shares = softmax(logits, axis=1)
    labels = (random.random((len(shares), 1)) > shares.cumsum(axis=1)).sum(axis=1)
    assert best_temperature(scale * logits, labels) == pytest.approx(scale, rel=0.06)
    assert calibration_error(logits, labels, 15) < 0.02


def test_scaling_helps_an_overconfident_network_and_accuracy_stays(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    logits = {split: random.normal(size=(2000, 3)) for split in ("test", "validation")}
    labels = {}
    for split, values in logits.items():
        shares = softmax(values, axis=1)
        labels[split] = (random.random((len(shares), 1)) > shares.cumsum(axis=1)).sum(axis=1)
        np.save(tmp_path / f"{split}_logits.npy", 5 * values)

    class Data:
        splits = ("train", "test", "validation")

        def labels(self, split: str) -> np.ndarray:
            return np.asarray(labels[split])

    class View:
        data = Data()

        def read(self, name: str) -> Path:
            return tmp_path / name

    found = evaluate(CalibratedAccuracyParams(), View())  # type: ignore[arg-type]
    right = float((logits["test"].argmax(1) == labels["test"]).mean())
    assert found["test_accuracy"][0] == pytest.approx(right)
    assert found["test_ece_scaled"][0] < 0.05 < found["test_ece"][0]
    assert found["temperature"] == (pytest.approx(5, rel=0.15), 2000)
    Data.splits = ("train", "test")
    crossed = evaluate(CalibratedAccuracyParams(), View())  # type: ignore[arg-type]
    assert crossed["temperature"] == (pytest.approx(5, rel=0.15), len(labels["test"]))
    assert crossed["test_ece_scaled"][0] < 0.05

    odd = np.where(np.arange(len(labels["test"])) % 2 == 1, 3.0, 1.0)
    np.save(tmp_path / "test_logits.npy", np.load(tmp_path / "test_logits.npy") * odd[:, None])
    worse = evaluate(CalibratedAccuracyParams(), View())["test_ece_scaled"][0]  # type: ignore[arg-type]
    assert worse > 0.1, "a half is scaled by what the other half needs, never by its own labels"
