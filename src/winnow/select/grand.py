"""GraNd: the examples with the largest gradients early in training.

Score: the mean over independently trained proxies of the last layer's gradient norm
||softmax - onehot|| sqrt(1 + ||h||^2), highest first. `easy` keeps the lowest.

Released code (DeepCore, commit 74ec709): the gradient is that of a batch's mean loss, so examples of the
last, partial batch of 128 (`mean_loss_batch`) count for more: the last 80 of 50,000 by 1.6. O(n log n).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.gradients import mean_loss_scale
from winnow.select.engine.grouped import Grouping
from winnow.select.engine.ranking import ranked
from winnow.select.engine.subset import Score, Subset, View, finite, labelled, subset


class GraNdParams(Params):
    proxies: int | None = Field(default=None, ge=1)
    keep: Literal["high", "low"] = "high"
    quotas: Grouping = "none"
    mean_loss_batch: int = Field(default=0, ge=0)


def needs(params: GraNdParams) -> Signals:
    return {"gradient_norms": {} if params.proxies is None else {"proxies": params.proxies}}


def nested(_: GraNdParams) -> bool:
    return True


@plugin(
    params=GraNdParams,
    variants={
        "paper": {},
        "released": {"mean_loss_batch": 128},
        "easy": {"keep": "low"},
        "balanced": {"quotas": "labels"},
    },
    needs=needs,
    nested=nested,
    source="Paul, Ganguli and Dziugaite, NeurIPS 2021, arXiv 2107.07075",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: GraNdParams) -> Subset:
    """Return the pool by mean gradient norm, cut at the budget.

    signals: `gradient_norms` (n, R), one column per proxy.
    """
    norms = finite(view, "gradient_norms", "grand").mean(axis=1, dtype=np.float64)
    if params.mean_loss_batch:
        norms *= mean_loss_scale(view.n, params.mean_loss_batch)
    score = Score(norms, params.keep)
    classes = labelled(view, "grand") if params.quotas == "labels" else None
    return subset(ranked(score, classes)[:budget], score)
