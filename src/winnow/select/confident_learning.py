"""Confident learning: keep the labels that predictions from outside the training data agree with.

Source: Northcutt et al., JAIR 2021. The library `cleanlab` computes everything from the labels and the
softmax of held-out logits: the quality of a label, its probability (`self_confidence`) or that minus the
largest other one, moved to [0, 1] (`normalized_margin`), and the examples that it flags as wrongly labelled
from the estimated joint distribution of given and true labels. Highest quality first; `prune` puts all
flagged examples behind the others, as the paper removes them.

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
    labels = labelled(view, "confident_learning")
    logits = finite(view, "heldout_logits", "confident_learning")
    quality, flagged = label_quality(logits, labels, params.quality)
    score = Score(quality - flagged if params.prune else quality, "high")
    order = ranked(score, labels if params.quotas == "labels" else None)
    return subset(order[:budget], score, facts={"label_issues": int(flagged.sum())})


def label_quality(logits: np.ndarray, labels: np.ndarray, quality: Quality) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels' qualities in [0, 1], (n,) float64, and which examples cleanlab flags, (n,) bool."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    from scipy.special import softmax

    if len(np.unique(labels)) < 2:
        return np.ones(len(labels)), np.zeros(len(labels), bool)
    probabilities = softmax(logits.astype(np.float64), axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes without examples, or with a single one
        flagged = find_label_issues(labels, probabilities, n_jobs=1)
    return get_label_quality_scores(labels, probabilities, method=quality), flagged
