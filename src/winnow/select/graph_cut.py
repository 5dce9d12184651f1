"""Graph cut: similar to all examples, dissimilar to each other.

    F(S) = lam sum of s_ij over i in all, j in S  -  sum of s_ij over i, j in S

lam = 1 is the rule of the "GraphCut" baseline (Iyer et al. 2021; DeepCore) and, within latent classes and
with another s, the objective of SAS. Submodular, monotone from lam = 2 on. At lam = 1 and small budgets
the first term rules: the picks are the most central examples. O(n^2 d) for the sums, O(n d) per pick.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from winnow.registry import plugin
from winnow.select.engine.choice import SimilarityParams, choose_by_similarity, similarity_needs
from winnow.select.engine.greedy import naive
from winnow.select.engine.set_functions import GraphCut
from winnow.select.engine.similarity import Similarity
from winnow.select.engine.subset import Subset, View


class GraphCutParams(SimilarityParams):
    lam: float = Field(default=1.0, ge=0)


def nested(_: GraphCutParams) -> bool:
    return True


@plugin(
    params=GraphCutParams,
    variants={"plain": {}, "stratified": {"quotas": "labels"}, "gradient": {"similarity": "gradient"}},
    needs=similarity_needs,
    nested=nested,
    source="Iyer, Khargoankar, Bilmes and Asnani, ALT 2021, arXiv 2006.15412",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: GraphCutParams) -> Subset:
    """Return the examples in the order picked; the fact `objective` is F per group.

    signals: `features` (n, d); for similarity `gradient` also `logits` (n, C), and labels.
    """

    def choose(similarity: Similarity, count: int) -> tuple[np.ndarray, dict[str, Any]]:
        order, gains = naive(GraphCut(similarity, params.lam), count)
        return order, {"objective": float(gains.sum())}

    return choose_by_similarity(view, budget, params, "graph_cut", choose)
