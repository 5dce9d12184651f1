"""Linear probes of a frozen encoder with few labels, on its own dataset and on others.

Logistic regression on features that are standardised by the labelled part, with one penalty for all (the
published 1e-3 |W|^2). The same labelled examples serve every arm of a repetition. Images of other datasets
are resized to the size that the encoder knows. The released code draws labels without regard to classes
(`balanced: false`), and runs L-BFGS without a line search, which can diverge: its arm without pre-training
scores 10 % on CIFAR-10, that of a random network with a sound solver is near 36 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin

if TYPE_CHECKING:
    from winnow.evaluate.engine.view import EvaluationView


class FewLabelProbeParams(Params):
    """shares: of the training labels that are shown. balanced: of each class, one at least."""

    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.01, 0.05, 0.1, 0.5), min_length=1
    )
    balanced: bool = True
    penalty: float = Field(default=2e-3, gt=0)
    iterations: int = Field(default=200, ge=1)


def needs(_: Params) -> Signals:
    return {"model": {}}


@plugin(params=FewLabelProbeParams, needs=needs, source="arXiv 2410.02116, section 5, with a line search")
def evaluate(params: FewLabelProbeParams, view: EvaluationView) -> dict[str, tuple[float, int]]:
    """Return test accuracy for every share and dataset, with its n; `test_accuracy` is of the first share."""
    found = _probed(
        params,
        view,
        view.encode("train"),
        view.data.labels("train"),
        view.encode("test"),
        view.data.labels("test"),
    )
    metrics = {"test_accuracy": next(iter(found.values()))}
    metrics |= {f"labels_{share}_accuracy": value for share, value in found.items()}
    for name, data in view.transfer.items():
        from winnow.train.engine.resize import resized

        train, test = (
            view.encode_images(resized(np.asarray(data.images(split)), view.data.shape))
            for split in ("train", "test")
        )
        other = _probed(params, view, train, data.labels("train"), test, data.labels("test"))
        metrics |= {f"{name}_labels_{share}_accuracy": value for share, value in other.items()}
    return metrics


def _probed(
    params: FewLabelProbeParams,
    view: EvaluationView,
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
) -> dict[str, tuple[float, int]]:
    """Return test accuracy and its n by the share's name, e.g. `1pct`."""
    from winnow.evaluate.linear_probe import accuracy, standardise, stratified_split
    from winnow.models.engine.logistic import fit_logistic, predict

    labels, test_labels = np.asarray(labels), np.asarray(test_labels)
    classes, found = int(max(labels.max(), test_labels.max())) + 1, {}
    for share in params.shares:
        if params.balanced:
            shown, _ = stratified_split(labels, share, view.random)
        else:
            shown = np.sort(view.random.permutation(len(labels))[: max(1, round(share * len(labels)))])
        own, held = standardise(train[shown], test)
        weights = fit_logistic(own, labels[shown], classes, params.penalty, params.iterations)
        right = accuracy(predict(held, weights), test_labels)
        found[f"{100 * share:g}pct".replace(".", "_")] = (right, len(test_labels))
    return found
