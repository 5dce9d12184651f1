"""SSL prototypes: keep what is far from every cluster centroid, or what is near one.

Sorscher et al. 2022: k-means on self-supervised embeddings; an example's difficulty is 1 - its cosine
to the nearest centroid. Keep the hard ones when data is abundant, the easy ones when it is scarce.

`class_balance` b reserves a share b of every budget for the classes in turn, each giving its best
remaining example: at budget m each class has at least floor(b m / C), or all it has. One order still
serves every budget.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.quotas import groups_of, interleave
from winnow.select.engine.subset import Score, Subset, View, finite, labelled, subset


class PrototypesParams(Params):
    direction: Literal["hard", "easy"] = "hard"
    class_balance: float = Field(default=0.0, ge=0, le=1)
    clusters: int | None = Field(default=None, ge=1)
    spherical: bool = False
    layer: Literal["projection", "backbone"] = "backbone"


def needs(params: PrototypesParams) -> Signals:
    return {"embeddings": {"layer": params.layer}}


def nested(_: PrototypesParams) -> bool:
    return True


@plugin(
    params=PrototypesParams,
    variants={
        "hard": {},
        "easy": {"direction": "easy"},
        "hard_balanced": {"class_balance": 0.5},
        "easy_balanced": {"direction": "easy", "class_balance": 0.5},
    },
    needs=needs,
    nested=nested,
    source="Sorscher et al., NeurIPS 2022, arXiv 2206.14486",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: PrototypesParams) -> Subset:
    """Return the ranking by distance to the nearest prototype, cut at the budget.

    signals: `embeddings` (n, d). clusters: default sqrt(n), at most 1,000. O(n k d) beside training.
    """
    from winnow.select.engine.clusters import kmeans, prototype_distances

    embeddings = finite(view, "embeddings", "prototypes")
    k = params.clusters or min(1000, round(view.n**0.5))
    clusters = kmeans(embeddings, k, rng, spherical=params.spherical, memory_gb=view.memory_gb)
    distances = prototype_distances(embeddings, np.arange(view.n), clusters.centroids)
    score = Score(distances, "high" if params.direction == "hard" else "low")
    order = score.order()
    if params.class_balance:
        order = balanced(order, labelled(view, "prototypes"), params.class_balance)
    return subset(order[:budget], score, facts={"clusters": len(clusters.centroids)})


def balanced(order: np.ndarray, labels: np.ndarray, share: float) -> np.ndarray:
    """Reorder a ranking: floor(share m) of the first m are due to the classes in turn, the rest to all.

    A turn whose example is in already, because its rank earned it, goes to the best one left.
    """
    classes = [order[group] for group in groups_of(labels[order])]
    turns = iter(interleave(classes, [len(order)] * len(classes)))
    ranked = iter(order)
    taken = np.zeros(len(order), bool)
    result = np.empty_like(order)
    for m in range(len(order)):
        due = int(share * (m + 1)) > int(share * m)
        pick = next(turns) if due else None
        while pick is None or taken[pick]:
            pick = next(ranked)
        taken[pick] = True
        result[m] = pick
    return result
