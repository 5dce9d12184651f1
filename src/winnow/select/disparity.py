"""Disparity: the chosen examples are far from each other, by the nearest pair or in sum.

    min: F(S) = min of d_ij over i, j in S          sum: F(S) = sum of d_ij over pairs in S

Neither is submodular. Greedy reaches half of the optimum of both (Ravi, Rosenkrantz and Tayi 1994; Borodin
et al. 2012). For `min` it is the farthest-first traversal that k-center uses, from another first pick. All
first gains are zero; the first pick is the example farthest from the mean. Euclidean d on features, O(n d)
per pick.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.choice import centred, in_order_of_value
from winnow.select.engine.greedy import naive
from winnow.select.engine.grouped import Grouping, choose_in_groups
from winnow.select.engine.set_functions import DisparityMin, DisparitySum
from winnow.select.engine.similarity import Distances
from winnow.select.engine.subset import Subset, View, finite


class DisparityParams(Params):
    of: Literal["min", "sum"] = "min"
    quotas: Grouping = "none"


def needs(_: DisparityParams) -> Signals:
    return {"features": {}}


def nested(_: DisparityParams) -> bool:
    return True


@plugin(
    params=DisparityParams,
    variants={"min": {}, "sum": {"of": "sum"}},
    needs=needs,
    nested=nested,
    source="Ravi, Rosenkrantz and Tayi, Operations Research 42, 1994",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: DisparityParams) -> Subset:
    """Return the examples in the order picked; the fact `objective` is F per group.

    signals: `features` (n, d).
    """
    rule = DisparityMin if params.of == "min" else DisparitySum
    features = finite(view, "features", "disparity")

    def choose(group: np.ndarray, count: int) -> tuple[np.ndarray, dict[str, Any]]:
        vectors = centred(features[group])
        start = [int(np.argmax(vectors.norms()))] if len(group) else []
        order, gains = naive(rule(Distances(vectors, memory_gb=0)), count, start)
        return order, {"objective": float(gains.sum())}

    inner = in_order_of_value(choose, features)
    return choose_in_groups(view, budget, np.arange(view.n), params.quotas, "disparity", inner)
