"""Accuracy of a supervised model on the test split, at its last epoch: no epoch is chosen by it.

Released codes of this field report the best of all epochs. Where the data have a validation split, the
accuracy on it is measured too, for choices that a study has to make.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from winnow.registry import Params, plugin

if TYPE_CHECKING:
    from winnow.evaluate.engine.view import EvaluationView


@plugin(source="Guo et al. 2022, arXiv 2204.08499, section 4, without its choice of the best epoch")
def evaluate(params: Params, view: EvaluationView) -> dict[str, tuple[float, int]]:
    """Return test accuracy, its mean over classes, test loss in nats, and accuracy on a validation split."""
    labels = np.asarray(view.data.labels("test"))
    logits = np.load(view.read("test_logits.npy"), allow_pickle=False)
    right = logits.argmax(axis=1) == labels
    per_class = [right[labels == label].mean() for label in np.unique(labels)]
    found = {
        "test_accuracy": (float(right.mean()), len(labels)),
        "balanced_accuracy": (float(np.mean(per_class)), len(labels)),
        "test_loss": (_cross_entropy(logits, labels), len(labels)),
    }
    if "validation" in view.data.splits:
        held = np.asarray(view.data.labels("validation"))
        predicted = np.load(view.read("validation_logits.npy"), allow_pickle=False).argmax(axis=1)
        found["validation_accuracy"] = (float((predicted == held).mean()), len(held))
    return found


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    top = logits.max(axis=1, keepdims=True)
    shifted = (logits - top).astype(np.float64)
    log_norm = np.log(np.exp(shifted).sum(axis=1))
    return float(np.mean(log_norm - shifted[np.arange(len(labels)), labels]))
