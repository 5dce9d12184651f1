"""Linear probe in and out of distribution: what features hold, whatever the model was taught to say.

Zero-shot classes against a classifier that was trained on them compares the captions as much as the encoders.
Here both are asked in the same way: logistic regression on frozen features of the training examples, as in
`linear_probe`, its penalty chosen on a part cut from them. It is scored on the test split, on a validation
split where there is one, and on corrupted test images where `corruptions` are named.

Of data whose test split is the shift, such as another style, the validation split is the same task without
it. Of other data the corruptions are the shift, each at five strengths; `shifted_accuracy` is their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin

if TYPE_CHECKING:
    from winnow.evaluate.engine.view import EvaluationView

Score = tuple[float, int]


class ShiftProbeParams(Params):
    """shifted: how many test images the corruptions are measured on, evenly spread over the split."""

    penalties: tuple[float, ...] = Field(default=(1e-5, 1e-4, 1e-3, 1e-2), min_length=1)
    held_out: float = Field(default=0.1, gt=0, lt=0.5)
    iterations: int = Field(default=100, ge=1)
    corruptions: tuple[Literal["greyscale", "blur", "noise", "crop", "colour"], ...] = ()
    shifted: int = Field(default=500, ge=1)


def needs(_: Params) -> Signals:
    return {"model": {}}


@plugin(params=ShiftProbeParams, needs=needs, source="Xue et al. 2024, arXiv 2310.04971, section 6")
def evaluate(params: ShiftProbeParams, view: EvaluationView) -> dict[str, Score]:
    """Return test accuracy and chance, with a validation split the accuracy on it and the drop from it, and
    with corruptions the accuracy under each of them and their mean; each with its number of examples.
    """
    from winnow.evaluate.linear_probe import accuracy, standardise
    from winnow.models.engine.logistic import predict

    train = view.encode("train")
    weights = _fitted(params, view, train)

    def score(features: np.ndarray, labels: np.ndarray) -> Score:
        return accuracy(predict(standardise(train, features)[1], weights), labels), len(labels)

    labels = np.asarray(view.data.labels("test"))
    found = {"test_accuracy": score(view.encode("test"), labels)}
    found["chance_accuracy"] = (float(np.bincount(labels).max() / len(labels)), len(labels))
    if "validation" in view.data.splits:
        plain, n = score(view.encode("validation"), np.asarray(view.data.labels("validation")))
        found["validation_accuracy"] = (plain, n)
        found["accuracy_drop"] = (plain - found["test_accuracy"][0], min(n, len(labels)))
    if params.corruptions:
        under = dict(_corrupted(params, view, labels, score))
        mean = float(np.mean([value for value, _ in under.values()]))
        found |= under | {"shifted_accuracy": (mean, min(params.shifted, len(labels)))}
    return found


def _fitted(params: ShiftProbeParams, view: EvaluationView, train: np.ndarray) -> np.ndarray:
    """Return the weights of a probe of all examples, with the penalty that does best on a part of them."""
    from winnow.evaluate.linear_probe import accuracy, standardise, stratified_split
    from winnow.models.engine.logistic import fit_logistic, predict

    features, labels = standardise(train, train)[0], np.asarray(view.data.labels("train"))
    classes = len(view.data.classes)
    held, fitted = stratified_split(labels, params.held_out, view.random)
    scores = []
    for penalty in params.penalties:
        weights = fit_logistic(features[fitted], labels[fitted], classes, penalty, params.iterations)
        scores.append((accuracy(predict(features[held], weights), labels[held]), penalty))
    return fit_logistic(features, labels, classes, max(scores)[1], params.iterations)


def _corrupted(
    params: ShiftProbeParams,
    view: EvaluationView,
    labels: np.ndarray,
    score: Callable[[np.ndarray, np.ndarray], Score],
) -> Iterator[tuple[str, Score]]:
    from winnow.evaluate.engine.corruptions import corrupted

    shown = np.linspace(0, len(labels) - 1, min(params.shifted, len(labels))).round().astype(int)
    original, labels = view.data.images("test")[shown], labels[shown]
    for kind in params.corruptions:
        for strength in range(1, 6):
            images = view.encode_images(corrupted(original, kind, strength))
            yield f"{kind}_{strength}_accuracy", score(images, labels)
