"""Facility location: every example has a similar one among the chosen.

    F(S) = sum over i of max over j in S of s_ij,   s >= 0

Monotone and submodular: greedy reaches at least 1 - 1/e of the optimum (Nemhauser et al. 1978). Lazy
greedy gives the picks of exact greedy; stochastic greedy (Mirzasoleiman et al., AAAI 2015) gives up
epsilon in expectation and is not nested. About (2 + ln k) n^2 d operations for k picks and never an
(n, n) array unless it fits; see `engine/facility_location.py`.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from winnow.registry import plugin
from winnow.select.engine.choice import SimilarityParams, choose_by_similarity, similarity_needs
from winnow.select.engine.greedy import lazy, stochastic
from winnow.select.engine.similarity import Similarity
from winnow.select.engine.subset import Subset, View


class FacilityLocationParams(SimilarityParams):
    optimiser: Literal["lazy", "stochastic"] = "lazy"
    epsilon: float = Field(default=0.1, gt=0, lt=1)


def nested(params: FacilityLocationParams) -> bool:
    return params.optimiser == "lazy"


@plugin(
    params=FacilityLocationParams,
    variants={"plain": {}, "stratified": {"quotas": "labels"}, "gradient": {"similarity": "gradient"}},
    needs=similarity_needs,
    nested=nested,
    source="Wei, Iyer and Bilmes, ICML 2015",
)
def select(
    view: View, budget: int | None, rng: np.random.Generator, params: FacilityLocationParams
) -> Subset:
    """Return the examples in the order picked; the fact `objective` is F per group.

    signals: `features` (n, d); for similarity `gradient` also `logits` (n, C), and labels.
    """
    from winnow.select.engine.facility_location import FacilityLocation

    def choose(similarity: Similarity, count: int) -> tuple[np.ndarray, dict[str, Any]]:
        function = FacilityLocation(similarity, view.memory_gb)
        if params.optimiser == "lazy":
            order, _ = lazy(function, count)
        else:
            order, _ = stochastic(function, count, rng, params.epsilon)
        return order, {"objective": function.value()}

    return choose_by_similarity(view, budget, params, "facility_location", choose)
