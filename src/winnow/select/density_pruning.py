"""Density-based pruning: more examples from clusters that are wide and far from their neighbours.

Abbas et al. 2024: with d_intra a cluster's mean cosine distance to its centroid, d_inter the mean
distance to the 20 nearest centroids and p = softmax(d_intra d_inter / tau), cluster j of M_j examples
gets x_j of the budget N from

    min 1/2 ||x||^2 - (p N)^T x   subject to   sum x = N,   lb_j <= x_j <= M_j

and keeps its x_j examples farthest from the centroid. The program is the Euclidean projection of p N
on a bounded simplex, solved exactly here, and rounded to whole numbers by largest remainder.

lb_j is one example, or the share `lower_bound` of the even split N / k, at most M_j.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.quotas import interleave
from winnow.select.engine.subset import Subset, View, finite, subset


class DensityPruningParams(Params):
    tau: float = Field(default=0.1, gt=0)
    lower_bound: float = Field(default=0.0, ge=0, le=1)
    n_neighbours: int = Field(default=20, ge=1)
    clusters: int | None = Field(default=None, ge=1)
    layer: Literal["projection", "backbone"] = "backbone"


def needs(params: DensityPruningParams) -> Signals:
    return {"embeddings": {"layer": params.layer}}


@plugin(
    params=DensityPruningParams,
    variants={"paper": {}, "released": {"tau": 0.5, "lower_bound": 0.5}},
    needs=needs,
    source="Abbas et al., ICLR 2024, arXiv 2401.04578",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: DensityPruningParams) -> Subset:
    """Return each cluster's hardest examples, clusters merged in proportion to what they keep.

    signals: `embeddings` (n, d), preferably of a deduplicated pool. clusters: default sqrt(n), at
    most 100. O(n k d) beside training.
    """
    from winnow.select.engine.clusters import kmeans
    from winnow.select.engine.duplicates import centroid_cosines

    embeddings = finite(view, "embeddings", "density_pruning")
    k = params.clusters or min(100, round(view.n**0.5))
    clusters = kmeans(embeddings, k, rng, spherical=True, memory_gb=view.memory_gb)
    cells, centroids = clusters.members, clusters.centroids
    cosines = [centroid_cosines(embeddings, *pair) for pair in zip(cells, centroids, strict=True)]
    d_intra = np.array([np.mean(1 - near, dtype=np.float64) for near in cosines])
    p = softmax(d_intra * mean_neighbour_distance(centroids, params.n_neighbours) / params.tau)
    wanted = view.n if budget is None else budget
    sizes = np.array([len(cell) for cell in cells])
    counts = allocate(p, sizes, wanted, params.lower_bound)
    hardest = [
        cell[np.argsort(near, kind="stable")][:count]
        for cell, near, count in zip(cells, cosines, counts, strict=True)
    ]
    facts = {"clusters": [{"size": int(m), "chosen": int(x)} for m, x in zip(sizes, counts, strict=True)]}
    return subset(interleave(hardest), facts=facts)


def mean_neighbour_distance(centroids: np.ndarray, n_neighbours: int) -> np.ndarray:
    """Return each centroid's mean 1 - cosine to its nearest other ones (k,); 0 for a single one."""
    distances = 1 - centroids.astype(np.float64) @ centroids.T
    np.fill_diagonal(distances, np.inf)
    near = np.sort(distances, axis=1)[:, : min(n_neighbours, len(centroids) - 1)]
    means: np.ndarray = near.mean(axis=1) if near.size else np.zeros(len(centroids))
    return means


def softmax(values: np.ndarray) -> np.ndarray:
    powers: np.ndarray = np.exp(values - values.max())
    powers /= powers.sum()
    return powers


def allocate(p: np.ndarray, sizes: np.ndarray, budget: int, lower_bound: float) -> np.ndarray:
    """Return whole numbers of examples per cluster, adding up to the budget, within their bounds."""
    least = int(max(1, lower_bound * budget / len(p))) if budget >= len(p) else 0
    shares = project(p * budget, np.minimum(least, sizes), sizes, budget)
    counts: np.ndarray = np.floor(shares).astype(np.int64)
    remainders = np.argsort(counts - shares, kind="stable")
    counts[remainders[: budget - counts.sum()]] += 1
    return counts


def project(target: np.ndarray, lower: np.ndarray, upper: np.ndarray, total: float) -> np.ndarray:
    """Return the point nearest to `target` in the box [lower, upper] whose sum is `total`.

    It is clip(target - shift, lower, upper) for one shift. The sum falls with the shift, linearly
    between the values where an entry reaches a bound: bisection over those, then one division.
    """
    breaks = np.unique(np.concatenate([target - upper, target - lower]))

    def at(shift: float) -> np.ndarray:
        return np.clip(target - shift, lower, upper)

    left, right = 0, len(breaks) - 1
    while right - left > 1:
        middle = (left + right) // 2
        left, right = (middle, right) if at(breaks[middle]).sum() >= total else (left, middle)
    high, low = at(breaks[left]), at(breaks[right])
    drop = high.sum() - low.sum()
    nearest: np.ndarray = high if drop == 0 else high + (low - high) * (high.sum() - total) / drop
    return nearest
