"""EL2N: the examples whose predicted probabilities are farthest from their labels, early in training.

Score: the mean over independently trained proxies of ||softmax - onehot||, highest first. `easy` keeps
the lowest. Not in the released collection of DeepCore. O(n log n).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.grouped import Grouping
from winnow.select.engine.ranking import ranked
from winnow.select.engine.subset import Score, Subset, View, finite, labelled, subset


class EL2NParams(Params):
    """proxies None: as many as the scale sets for the signal (10 by default, as in the paper)."""

    proxies: int | None = Field(default=None, ge=1)
    keep: Literal["high", "low"] = "high"
    quotas: Grouping = "none"


def needs(params: EL2NParams) -> Signals:
    return {"residual_norms": {} if params.proxies is None else {"proxies": params.proxies}}


def nested(_: EL2NParams) -> bool:
    return True


@plugin(
    params=EL2NParams,
    variants={"paper": {}, "easy": {"keep": "low"}, "balanced": {"quotas": "labels"}},
    needs=needs,
    nested=nested,
    source="Paul, Ganguli and Dziugaite, NeurIPS 2021, arXiv 2107.07075",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: EL2NParams) -> Subset:
    """Return the pool by mean residual norm, cut at the budget.

    signals: `residual_norms` (n, R), one column per proxy.
    """
    score = Score(finite(view, "residual_norms", "el2n").mean(axis=1, dtype=np.float64), params.keep)
    classes = labelled(view, "el2n") if params.quotas == "labels" else None
    return subset(ranked(score, classes)[:budget], score)
