"""SemDeDup: drop examples that are too similar to another one of their cluster.

Paper (Abbas et al. 2023): spherical k-means; order each cluster by distance to its centroid, farthest
first; j goes if an earlier i that was kept has cosine above 1 - eps. Released code: earlier examples
that were removed themselves count too, so that of a chain a~b~c only a stays, even where a and c differ.

A budget fixes eps. Against all, the order by each example's largest cosine with an earlier one serves
every budget. Against the kept, eps is searched for, and the excess is cut by that same order. With
`eps` given, the method decides how many stay, whatever the budget.

Unless `clusters` says how many, cells are split until none has more than `cluster_size` examples:
O(n log n d) to cluster and O(n cluster_size d) to compare, so linear in practice in n.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.subset import Score, Subset, View, finite, subset


class SemDeDupParams(Params):
    chain_rule: Literal["against_kept", "against_all"] = "against_kept"
    keep: Literal["hard", "easy", "random"] = "hard"
    eps: float | None = Field(default=None, ge=0, le=2)
    clusters: int | None = Field(default=None, ge=1)
    cluster_size: int = Field(default=4096, ge=1)
    layer: Literal["projection", "backbone"] = "backbone"


def needs(params: SemDeDupParams) -> Signals:
    return {"embeddings": {"layer": params.layer}}


def nested(params: SemDeDupParams) -> bool:
    return params.chain_rule == "against_all" and params.eps is None


@plugin(
    params=SemDeDupParams,
    variants={"paper": {}, "released": {"chain_rule": "against_all"}},
    needs=needs,
    nested=nested,
    source="Abbas et al. 2023, arXiv 2303.09540",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: SemDeDupParams) -> Subset:
    """Return the examples that stay, the least similar to an earlier one first.

    signals: `embeddings` (n, d), compared at norm 1. The score is the largest cosine with an earlier
    example of the cluster, -1 for a cluster's first.
    """
    from winnow.select.engine.duplicates import deduplicate, find_duplicates, survivors_of

    embeddings = finite(view, "embeddings", "semdedup")
    found = find_duplicates(
        embeddings, rng, params.keep, params.clusters, params.cluster_size, view.memory_gb
    )
    score = Score(found.scores, "low") if params.chain_rule == "against_all" else None
    facts = {"clusters": len(found.orders), "largest_cluster": max(map(len, found.orders))}
    if params.eps is not None:
        chosen = survivors_of(found, params.eps, params.chain_rule)
        return subset(chosen, score, size=len(chosen), facts={**facts, "eps": params.eps})
    chosen, eps = deduplicate(found, view.n if budget is None else budget, params.chain_rule)
    return subset(chosen, score, facts={**facts, "eps": eps})
