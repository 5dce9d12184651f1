"""k-center greedy: each pick is the example farthest from the picks so far (farthest-first traversal).

Source: Gonzalez 1985; as a coreset, Sener and Savarese, ICLR 2018. The largest distance of an example to its
nearest pick is at most twice the smallest possible. Distances are Euclidean, on penultimate features.

The first pick is not stated: here the example nearest the mean; in the released code (DeepCore 74ec709) a
random one. The released (picks x n) matrix of distances is a cost and not a rule: only the minimum counts.

O(budget n d) at worst, one bound per example (see `engine/farthest.py`).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.choice import in_order_of_value
from winnow.select.engine.grouped import Grouping, choose_in_groups
from winnow.select.engine.subset import Subset, View, finite


class KCenterParams(Params):
    first: Literal["central", "random"] = "central"
    quotas: Grouping = "none"


RELEASED = {"first": "random"}


def needs(_: KCenterParams) -> Signals:
    return {"features": {}}


def nested(_: KCenterParams) -> bool:
    return True


@plugin(
    params=KCenterParams,
    variants={"paper": {}, "released": RELEASED},
    needs=needs,
    nested=nested,
    source="Sener and Savarese, ICLR 2018, arXiv 1708.00489",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: KCenterParams) -> Subset:
    """Return the centres in the order picked; the fact `radius` is the distance they cover the pool to.

    signals: `features` (n, d).
    """
    from winnow.select.engine.farthest import farthest_first, most_central

    def choose(group: np.ndarray, count: int) -> tuple[np.ndarray, dict[str, Any]]:
        rows = features[group]
        first = int(rng.integers(len(rows))) if params.first == "random" else most_central(rows, rows)
        order, square = farthest_first(rows, rows, count, first)
        return order, {"radius": float(np.sqrt(square))} if count else {}

    features = np.ascontiguousarray(finite(view, "features", "k_center"), dtype=np.float32)
    inner = in_order_of_value(choose, features)
    return choose_in_groups(view, budget, np.arange(view.n), params.quotas, "k_center", inner)
