"""Uncertainty sampling: the examples about which the proxy is least sure, whatever their label.

With p the proxy's softmax and p_1 >= p_2 >= ... its sorted probabilities, most uncertain first:
`least_confidence` 1 - p_1, `entropy` -sum_j p_j log p_j, `margin` 1 - (p_1 - p_2). All three come from the
differences to the largest logit, so that a confident network's examples do not tie at p_1 = 1; they do
where that difference exceeds about 745 and its exponential is zero in float64.

Released code (DeepCore 74ec709): least confidence is the largest *logit*, lowest first, which also
measures the scale of an example's features. Within classes that order is the intended one; over the whole
pool the sort is reversed and the most certain examples are kept (`reversed_globally`). O(n C log C).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.grouped import Grouping
from winnow.select.engine.ranking import ranked
from winnow.select.engine.subset import Score, Subset, View, finite, labelled, subset

Measure = Literal["least_confidence", "entropy", "margin", "max_logit"]


class UncertaintyParams(Params):
    """reversed_globally: with `quotas: none`, keep the most certain examples."""

    measure: Measure = "least_confidence"
    quotas: Grouping = "none"
    reversed_globally: bool = False


RELEASED = {"measure": "max_logit", "reversed_globally": True}


def needs(_: UncertaintyParams) -> Signals:
    return {"logits": {}}


def nested(_: UncertaintyParams) -> bool:
    return True


@plugin(
    params=UncertaintyParams,
    variants={
        "least_confidence": {},
        "entropy": {"measure": "entropy"},
        "margin": {"measure": "margin"},
        "released": RELEASED,
        "released_balanced": {**RELEASED, "quotas": "labels"},
    },
    needs=needs,
    nested=nested,
    source="Guo et al. 2022 (DeepCore), arXiv 2204.08499, and its released code",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: UncertaintyParams) -> Subset:
    """Return the examples by the proxy's uncertainty, most uncertain first.

    signals: `logits` (n, C).
    """
    values = uncertainty(finite(view, "logits", "uncertainty"), params.measure)
    classes = labelled(view, "uncertainty") if params.quotas == "labels" else None
    score = Score(values, "low" if params.reversed_globally and classes is None else "high")
    return subset(ranked(score, classes)[:budget], score)


def uncertainty(logits: np.ndarray, measure: Measure) -> np.ndarray:
    """Return (n,) float64, higher is less certain; entropy in nats."""
    descending = -np.sort(-logits.astype(np.float64), axis=1)
    if measure == "max_logit":
        return np.asarray(-descending[:, 0])
    gaps = descending - descending[:, :1]
    odds = np.exp(gaps)
    total = odds.sum(axis=1)
    if measure == "entropy":
        values = np.log1p(odds[:, 1:].sum(axis=1)) - (odds * gaps).sum(axis=1) / total
    elif measure == "least_confidence":
        values = odds[:, 1:].sum(axis=1) / total
    else:
        values = (odds[:, 1:].sum(axis=1) + odds[:, 1:2].sum(axis=1)) / total  # no second of one class
    return np.asarray(values)
