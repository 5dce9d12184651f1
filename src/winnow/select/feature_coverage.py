"""Feature coverage: every feature is present among the chosen, with diminishing returns.

    F(S) = sum over features f of phi(sum over i in S of x_if),   phi = sqrt, log(1 + c) or min(c, cap)

Monotone and submodular (Wei, Iyer, Wang, Bai and Bilmes 2014; "feature-based functions"), and the one
function here without pairs: O(n d) memory, O(d) per gain. Features must not be negative: the negative parts
of a feature count as a feature of their own. Lazy greedy gives the picks of exact greedy.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.choice import in_order_of_value
from winnow.select.engine.greedy import lazy, stochastic
from winnow.select.engine.grouped import Grouping, choose_in_groups
from winnow.select.engine.set_functions import Concave, FeatureCoverage
from winnow.select.engine.subset import Subset, View, finite


class FeatureCoverageParams(Params):
    concave: Concave = "sqrt"
    cap: float = Field(default=0.1, gt=0, le=1)
    quotas: Grouping = "none"
    optimiser: Literal["lazy", "stochastic"] = "lazy"
    epsilon: float = Field(default=0.1, gt=0, lt=1)


def needs(_: FeatureCoverageParams) -> Signals:
    return {"features": {}}


def nested(params: FeatureCoverageParams) -> bool:
    return params.optimiser == "lazy"


@plugin(
    params=FeatureCoverageParams,
    variants={
        "plain": {},
        "log": {"concave": "log"},
        "cap": {"concave": "cap"},
        "stratified": {"quotas": "labels"},
    },
    needs=needs,
    nested=nested,
    source="Wei, Iyer and Bilmes, ICML 2015",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: FeatureCoverageParams) -> Subset:
    """Return the examples in the order picked; the fact `objective` is F per group.

    signals: `features` (n, d).
    """
    features = finite(view, "features", "feature_coverage")
    if (features < 0).any():
        features = np.concatenate([np.maximum(features, 0), np.maximum(-features, 0)], axis=1)

    def choose(group: np.ndarray, count: int) -> tuple[np.ndarray, dict[str, Any]]:
        function = FeatureCoverage(features[group], params.concave, params.cap)
        if params.optimiser == "lazy":
            order, _ = lazy(function, count)
        else:
            order, _ = stochastic(function, count, rng, params.epsilon)
        return order, {"objective": function.value()}

    inner = in_order_of_value(choose, features)
    return choose_in_groups(view, budget, np.arange(view.n), params.quotas, "feature_coverage", inner)
