"""Accuracy, and how far a network's confidence is from it: the expected calibration error (ECE).

ECE is the mean, over bins of equal width of the largest probability, of |accuracy - confidence|, weighted
by how many test images fall into a bin. It is measured again after the logits were divided by one
temperature, which minimises the cross-entropy of the validation split: networks that are trained on few
images are overconfident, and a method is not worse for that alone. Without a validation split each half of
the test images gets the temperature of the other half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from winnow.registry import Params, plugin

if TYPE_CHECKING:
    from winnow.evaluate.engine.view import EvaluationView


class CalibratedAccuracyParams(Params):
    bins: int = Field(default=15, ge=2)


@plugin(params=CalibratedAccuracyParams, source="Guo et al. 2017, arXiv 1706.04599, equations 3 and 9")
def evaluate(params: CalibratedAccuracyParams, view: EvaluationView) -> dict[str, tuple[float, int]]:
    """Return accuracies, `test_ece`, `temperature` (of two, their geometric mean) and `test_ece_scaled`."""
    from winnow.evaluate import accuracy

    found = accuracy.evaluate(Params(), view)
    logits, labels = _read(view, "test")
    found["test_ece"] = (calibration_error(logits, labels, params.bins), len(labels))
    if "validation" in view.data.splits:
        held, held_labels = _read(view, "validation")
        temperatures = np.array([best_temperature(held, held_labels)])
        looked_at = len(held_labels)
    else:
        halves = [slice(other, None, 2) for other in (1, 0)]
        temperatures = np.array([best_temperature(logits[half], labels[half]) for half in halves])
        looked_at = len(labels)
    own = temperatures[np.arange(len(labels)) % len(temperatures)]
    scaled = calibration_error(logits / own[:, None], labels, params.bins)
    found["temperature"] = (float(np.exp(np.log(temperatures).mean())), looked_at)
    found["test_ece_scaled"] = (scaled, len(labels))
    return found


def _read(view: EvaluationView, split: str) -> tuple[np.ndarray, np.ndarray]:
    logits = np.load(view.read(f"{split}_logits.npy"), allow_pickle=False)
    return logits.astype(np.float64), np.asarray(view.data.labels(split))


def calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int) -> float:
    """Return the ECE; logits (n, classes). On the border of two bins the lower one counts."""
    from scipy.special import softmax

    shares = softmax(logits, axis=1)
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, right.astype(float) - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature between 0.01 and 100 with the least cross-entropy."""
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[rows, labels]))

    bound = float(np.log(100))
    return float(np.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x))
