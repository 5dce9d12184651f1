"""Confident learning: keep the labels that predictions from outside the training data agree with.

Source: Northcutt et al., JAIR 2021. The library `cleanlab` computes everything from the labels and the
softmax of held-out logits: the quality of a label, its probability (`self_confidence`) or that minus the
largest other one, moved to [0, 1] (`normalized_margin`), and an estimate of how many labels are wrong, from
the joint distribution of given and true labels. Highest quality first; `prune` puts the examples that
the library flags by noise rate behind all others, as the paper removes them.

A pool with a single label has nothing to confuse it with: every quality is 1 and nothing is flagged.
O(n C + C^2).
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.grouped import Grouping
from winnow.select.engine.ranking import ranked
from winnow.select.engine.subset import Score, Subset, View, finite, labelled, subset

Quality = Literal["self_confidence", "normalized_margin"]


class ConfidentLearningParams(Params):
    quality: Quality = "self_confidence"
    prune: bool = False
    quotas: Grouping = "none"


def needs(_: ConfidentLearningParams) -> Signals:
    return {"heldout_logits": {}}


def nested(_: ConfidentLearningParams) -> bool:
    return True


@plugin(
    params=ConfidentLearningParams,
    variants={
        "self_confidence": {},
        "normalized_margin": {"quality": "normalized_margin"},
        "pruned": {"prune": True},
    },
    needs=needs,
    nested=nested,
    source="Northcutt et al., JAIR 2021, arXiv 1911.00068; cleanlab",
)
def select(
    view: View, budget: int | None, rng: np.random.Generator, params: ConfidentLearningParams
) -> Subset:
    """Return the examples by the quality of their label, highest first.

    signals: `heldout_logits` (n, C), each row from a model that was not trained on the example.
    """
    from scipy.special import softmax

    labels = labelled(view, "confident_learning")
    logits = finite(view, "heldout_logits", "confident_learning")
    probabilities = softmax(logits.astype(np.float64), axis=1)
    quality, issues = label_quality(probabilities, labels, params.quality)
    facts = {"label_issues": issues}
    if params.prune:
        flagged = flagged_labels(probabilities, labels)
        quality = quality - 2 * flagged
        facts["flagged"] = int(flagged.sum())
    score = Score(quality, "high")
    order = ranked(score, labels if params.quotas == "labels" else None)
    return subset(order[:budget], score, facts=facts)


def label_quality(probabilities: np.ndarray, labels: np.ndarray, quality: Quality) -> tuple[np.ndarray, int]:
    """Return the labels' qualities in [0, 1], (n,) float64, and the estimated number of wrong labels."""
    from cleanlab.experimental.label_issues_batched import LabelInspector

    if _one_label(labels):
        return np.ones(len(labels)), 0
    inspector = LabelInspector(
        num_class=probabilities.shape[1], verbose=False, quality_score_kwargs={"method": quality}
    )
    inspector.update_confident_thresholds(labels, probabilities)
    return inspector.score_label_quality(labels, probabilities), int(inspector.get_num_issues(silent=True))


def flagged_labels(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the mask (n,) bool of the examples that cleanlab prunes by noise rate."""
    from cleanlab.filter import find_label_issues

    if _one_label(labels):
        return np.zeros(len(labels), bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes without examples, or with a single one
        flagged: np.ndarray = find_label_issues(labels, probabilities, n_jobs=1)
    return flagged


def _one_label(labels: np.ndarray) -> bool:
    return bool((labels == labels[:1]).all())
