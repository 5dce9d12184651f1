"""Herding: picks whose running sum stays as close as it can to that many times the mean.

Source: Welling, ICML 2009; iCaRL (Rebuffi et al., CVPR 2017) for classes. Pick i + 1 is

    argmin_x || (i + 1) mu - sum of the picks - x ||   over the examples not yet picked.

With features centred at mu and s the sum of the centred picks this is argmin_x ||x||^2 / 2 + s . x: one
product per pick instead of all distances anew. The released code (DeepCore 74ec709) takes the **argmax**.

mu and the picks are per class by default, as the field uses it; `quotas: none` is one herd for the pool.
O(budget n d), one copy of the features.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.centre import centred
from winnow.select.engine.choice import in_order_of_value
from winnow.select.engine.grouped import Grouping, choose_in_groups
from winnow.select.engine.subset import Subset, View, finite


class HerdingParams(Params):
    pick: Literal["nearest", "farthest"] = "nearest"
    quotas: Grouping = "labels"


RELEASED = {"pick": "farthest"}


def needs(_: HerdingParams) -> Signals:
    return {"features": {}}


def nested(_: HerdingParams) -> bool:
    return True


@plugin(
    params=HerdingParams,
    variants={"paper": {}, "released": RELEASED},
    needs=needs,
    nested=nested,
    source="Welling, ICML 2009; Rebuffi et al., CVPR 2017, arXiv 1611.07725",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: HerdingParams) -> Subset:
    """Return the picks in order; the fact `mean_gap` is the distance of their mean to that of the group.

    signals: `features` (n, d).
    """
    from winnow.select.engine.herd import herd

    def choose(group: np.ndarray, count: int) -> tuple[np.ndarray, dict[str, Any]]:
        around_zero = centred(features[group])
        order = herd(around_zero, count, params.pick == "farthest")
        if count == 0:
            return order, {}
        gap = np.linalg.norm(around_zero[order].mean(axis=0, dtype=np.float64))
        return order, {"mean_gap": float(gap)}

    features = finite(view, "features", "herding")
    inner = in_order_of_value(choose, features)
    return choose_in_groups(view, budget, np.arange(view.n), params.quotas, "herding", inner)
