"""Small loss: the examples whose label costs the proxy least, to remove wrong labels.

A network learns what agrees with the rest of the data before it memorises what does not (Arpit et al., ICML
2017), so a wrong label has a large loss while it trains; keeping the smallest losses is the rule of Han et
al. (Co-teaching, NeurIPS 2018). `mean` averages the cross-entropy over all epochs; `last` takes the last
one, by which time wrong labels may have been memorised. O(n E).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.grouped import Grouping
from winnow.select.engine.ranking import ranked
from winnow.select.engine.subset import Score, Subset, View, finite, labelled, subset


class SmallLossParams(Params):
    epochs: Literal["mean", "last"] = "mean"
    quotas: Grouping = "none"


def needs(_: SmallLossParams) -> Signals:
    return {"loss_history": {}}


def nested(_: SmallLossParams) -> bool:
    return True


@plugin(
    params=SmallLossParams,
    variants={"mean": {}, "last": {"epochs": "last"}},
    needs=needs,
    nested=nested,
    source="Han et al., NeurIPS 2018, arXiv 1804.06872; Arpit et al., ICML 2017, arXiv 1706.05394",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: SmallLossParams) -> Subset:
    """Return the examples by their loss, smallest first.

    signals: `loss_history` (n, E).
    """
    losses = finite(view, "loss_history", "small_loss")
    values = losses[:, -1] if params.epochs == "last" else losses.mean(axis=1, dtype=np.float64)
    score = Score(values, "low")
    classes = labelled(view, "small_loss") if params.quotas == "labels" else None
    return subset(ranked(score, classes)[:budget], score)
