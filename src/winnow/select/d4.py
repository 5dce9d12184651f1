"""D4: deduplicate, cluster what is left again, and drop the most prototypical of it.

Tirumala et al. 2023: SemDeDup keeps a share R_dedup of the pool, SSL prototypes a share R_proto of
that, R = R_dedup R_proto in all. Duplicates draw centroids to themselves, which is why the clusters
are computed anew. R_dedup is a parameter here and R_proto follows from the budget.

The order is nested: the deduplicated pool by distance to its nearest prototype, farthest first, then
the examples that deduplication dropped, the least similar to an earlier one first.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.subset import Score, Subset, View, finite, subset


class D4Params(Params):
    dedup_share: float = Field(default=0.75, gt=0, le=1)
    chain_rule: Literal["against_kept", "against_all"] = "against_kept"
    cluster_size: int = Field(default=4096, ge=1)
    prototypes: int | None = Field(default=None, ge=1)
    layer: Literal["projection", "backbone"] = "backbone"


def needs(params: D4Params) -> Signals:
    return {"embeddings": {"layer": params.layer}}


def nested(_: D4Params) -> bool:
    return True


@plugin(
    params=D4Params,
    needs=needs,
    nested=nested,
    source="Tirumala et al., NeurIPS 2023, arXiv 2308.12284",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: D4Params) -> Subset:
    """Return the order described above, cut at the budget.

    signals: `embeddings` (n, d). prototypes: default the square root of what deduplication keeps, at
    most 1,000. Cost: that of semdedup and of prototypes.
    """
    from winnow.select.engine.clusters import kmeans, prototype_distances
    from winnow.select.engine.duplicates import deduplicate, find_duplicates

    embeddings, memory_gb = finite(view, "embeddings", "d4"), view.memory_gb
    found = find_duplicates(embeddings, rng, "hard", None, params.cluster_size, memory_gb)
    kept, eps = deduplicate(found, max(1, round(params.dedup_share * view.n)), params.chain_rule)
    k = params.prototypes or min(1000, round(len(kept) ** 0.5))
    clusters = kmeans(embeddings, k, rng, among=kept, spherical=True, memory_gb=memory_gb)
    distances = prototype_distances(embeddings, kept, clusters.centroids)
    dropped = found.ranking[~np.isin(found.ranking, kept)]
    order = np.concatenate([kept[Score(distances, "high").order()], dropped])
    facts = {"eps": eps, "deduplicated": len(kept), "prototypes": len(clusters.centroids)}
    return subset(order[:budget], facts=facts)
