"""Contextual diversity: k-center under the symmetric KL divergence of the predicted probabilities.

D(p, q) = 0.5 sum p log(p / q) + 0.5 sum q log(q / p) = 0.5 sum (p - q)(log p - log q). With log-softmax
every term is finite and at least 0, also where a probability underflows (the released code, DeepCore
74ec709, then gives NaN, and holds a (picks x n x C) tensor; it has no other difference to reproduce).

The first pick is not stated: here the example with the smallest mean divergence to the others.
O(budget n C) at worst, 16 n C bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.choice import in_order_of_value
from winnow.select.engine.grouped import Grouping, choose_in_groups
from winnow.select.engine.subset import Subset, View, finite


class ContextualDiversityParams(Params):
    quotas: Grouping = "none"


def needs(_: ContextualDiversityParams) -> Signals:
    return {"logits": {}}


def nested(_: ContextualDiversityParams) -> bool:
    return True


@plugin(
    params=ContextualDiversityParams,
    variants={"paper": {}},
    needs=needs,
    nested=nested,
    source="Agarwal et al., ECCV 2020, arXiv 2008.05723",
)
def select(
    view: View, budget: int | None, rng: np.random.Generator, params: ContextualDiversityParams
) -> Subset:
    """Return the picks in order; the fact `radius` is the divergence within which they cover the pool.

    signals: `logits` (n, C).
    """
    from scipy.special import log_softmax

    from winnow.select.engine.farthest import farthest_first, most_central

    def choose(group: np.ndarray, count: int) -> tuple[np.ndarray, dict[str, Any]]:
        log_p = log_softmax(logits[group].astype(np.float64), axis=1)
        half_p, log_p = (0.5 * np.exp(log_p)).astype(np.float32), log_p.astype(np.float32)
        order, radius = farthest_first(half_p, log_p, count, most_central(half_p, log_p))
        return order, {"radius": radius} if count else {}

    logits = finite(view, "logits", "contextual_diversity")
    inner = in_order_of_value(choose, logits)
    return choose_in_groups(view, budget, np.arange(view.n), params.quotas, "contextual_diversity", inner)
