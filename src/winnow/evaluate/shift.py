"""Accuracy in and out of distribution: validation split as the training data are drawn, test split shifted.

For datasets whose test split is a shift of the training distribution (spurious correlations turned round,
another style): the validation split is the same task without it. The drop is the difference of the two on
different examples; a model without any drop can still be poor, so the accuracies come with it, and so does
the chance level (the share of the test split's largest class).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from winnow.registry import Params, Signals, plugin

if TYPE_CHECKING:
    from winnow.evaluate.engine.view import EvaluationView


def needs(_: Params) -> Signals:
    return {"validation": {}}


@plugin(needs=needs, source="Xue et al. 2024, arXiv 2310.04971, section 6")
def evaluate(params: Params, view: EvaluationView) -> dict[str, tuple[float, int]]:
    """Return test accuracy (shifted), validation accuracy (in distribution), their difference, and chance."""
    splits = [split for split in ("test", "validation") if split in view.data.splits]
    found = {f"{split}_accuracy": _accuracy(view, split) for split in splits}
    labels = np.asarray(view.data.labels("test"))
    found["chance_accuracy"] = (float(np.bincount(labels).max() / len(labels)), len(labels))
    if "validation_accuracy" in found:
        (shifted, n), (plain, m) = found["test_accuracy"], found["validation_accuracy"]
        found["accuracy_drop"] = (plain - shifted, min(n, m))
    return found


def _accuracy(view: EvaluationView, split: str) -> tuple[float, int]:
    labels = np.asarray(view.data.labels(split))
    logits = np.load(view.read(f"{split}_logits.npy"), allow_pickle=False)
    return float((logits.argmax(axis=1) == labels).mean()), len(labels)
