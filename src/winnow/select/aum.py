"""AUM: the area under the margin, the mean over a training run of an example's margin.

Source: Pleiss et al., NeurIPS 2020. The margin is the logit of the label minus the largest other logit. The
network resists a wrong label until it memorises it, so its mean margin is low: keep the highest.

The paper also trains on an extra class of relabelled examples to find a threshold; here the budget is
the threshold. O(n E).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.grouped import Grouping
from winnow.select.engine.ranking import ranked
from winnow.select.engine.subset import Score, Subset, View, finite, labelled, subset


class AUMParams(Params):
    """keep: `high` removes likely wrong labels, `low` keeps the hardest examples, wrong labels included."""

    keep: Literal["high", "low"] = "high"
    quotas: Grouping = "none"


def needs(_: AUMParams) -> Signals:
    return {"margin_history": {}}


def nested(_: AUMParams) -> bool:
    return True


@plugin(
    params=AUMParams,
    variants={"paper": {}},
    needs=needs,
    nested=nested,
    source="Pleiss et al., NeurIPS 2020, arXiv 2001.10528",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: AUMParams) -> Subset:
    """Return the examples by their mean margin, highest first by default.

    signals: `margin_history` (n, E).
    """
    margins = finite(view, "margin_history", "aum")
    score = Score(margins.mean(axis=1, dtype=np.float64), params.keep)
    classes = labelled(view, "aum") if params.quotas == "labels" else None
    return subset(ranked(score, classes)[:budget], score)
