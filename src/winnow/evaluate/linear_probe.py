"""Linear probe: logistic regression on frozen features of the encoder.

Features come from the last epoch's encoder in evaluation mode and are standardised by the training
part's mean and deviation. The penalty is chosen on a validation split cut from the training data
(equal accuracies: the larger one), then the probe is refitted on all labelled training data. The test
split is scored once and chooses nothing. With `label_share` below 1 only that part of every class has
labels. The released code reports the best of 40 test accuracies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin

if TYPE_CHECKING:
    from winnow.evaluate.engine.view import EvaluationView


class LinearProbeParams(Params):
    penalties: tuple[float, ...] = Field(default=(1e-5, 1e-4, 1e-3, 1e-2), min_length=1)
    validation: float = Field(default=0.1, gt=0, lt=0.5)
    iterations: int = Field(default=100, ge=1)
    label_share: float = Field(default=1.0, gt=0, le=1)


def needs(_: LinearProbeParams) -> Signals:
    return {"model": {}}


@plugin(params=LinearProbeParams, needs=needs, version=2, source="SAS release: L-BFGS, 100 iterations")
def evaluate(params: LinearProbeParams, view: EvaluationView) -> dict[str, tuple[float, int]]:
    """Return test and validation accuracy (fractions) and the chosen penalty, each with its n."""
    from winnow.models.engine.logistic import fit_logistic, predict

    labels, classes = view.data.labels("train"), len(view.data.classes)
    features, test = standardise(view.encode("train"), view.encode("test"))
    test_labels = view.data.labels("test")
    if params.label_share < 1:
        shown, _ = stratified_split(labels, params.label_share, view.random)
        features, labels = features[shown], labels[shown]
    held, fitted = stratified_split(labels, params.validation, view.random)
    scores = []
    for penalty in params.penalties:
        weights = fit_logistic(features[fitted], labels[fitted], classes, penalty, params.iterations)
        scores.append((accuracy(predict(features[held], weights), labels[held]), penalty))
    validation, penalty = max(scores)
    final = fit_logistic(features, labels, classes, penalty, params.iterations)
    return {
        "test_accuracy": (accuracy(predict(test, final), test_labels), len(test_labels)),
        "validation_accuracy": (validation, len(held)),
        "probe_penalty": (penalty, len(held)),
    }


def standardise(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both arrays with the training part's mean removed, divided by its deviation (or 1)."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation < 1e-6] = 1
    return (train - mean) / deviation, (test - mean) / deviation


def stratified_split(
    labels: np.ndarray, share: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return (held-out, remaining) positions with `share` of each class, at least one, held out."""
    held = []
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        held.append(members[: max(1, round(share * len(members)))])
    chosen = np.sort(np.concatenate(held))
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of equal entries."""
    return float(np.mean(predicted == labels))
