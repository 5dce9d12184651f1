"""Near-duplicates within clusters: for each example, the examples before it in its cluster's order.

Cosines come in blocks of at most 1,024 x 1,024, so that no cluster needs its n_k x n_k matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import numpy as np

from winnow.select.engine.clusters import Clusters, kmeans, tree_kmeans, unit

BLOCK = 1024
ROUNDING = 1e-6  # what float32 inner products of unit vectors are good for
GRID = 64  # values of eps that one sweep tries: the bits of a word

Keep = Literal["hard", "easy", "random"]
ChainRule = Literal["against_kept", "against_all"]


def cluster_orders(rows: np.ndarray, clusters: Clusters, keep: Keep) -> list[np.ndarray]:
    """Return each cluster's positions, the ones to prefer first.

    hard: farthest from the centroid first; easy: nearest first; random: the members' content order,
    which is drawn from the seed. Ties stay in content order, equal rows in the order of the pool.
    """
    if keep == "random":
        return clusters.members
    sign = 1 if keep == "hard" else -1
    orders = []
    for cell, centroid in zip(clusters.members, clusters.centroids, strict=True):
        cosines = centroid_cosines(rows, cell, centroid)
        orders.append(cell[np.argsort(sign * cosines, kind="stable")])
    return orders


def centroid_cosines(rows: np.ndarray, positions: np.ndarray, centroid: np.ndarray) -> np.ndarray:
    """Return the cosines of rows with one centroid to six digits, in blocks, (len(positions),)."""
    direction = unit(centroid[None])[0]
    blocks = [positions[i : i + BLOCK] for i in range(0, len(positions), BLOCK)]
    cosines = np.concatenate([np.einsum("nd,d->n", unit(rows[block]), direction) for block in blocks])
    return np.round(cosines, 6)


class Duplicates:
    """Clusters in order, and `scores` (n,) float32: the largest cosine with an earlier member.

    The first example of a cluster has score -1; scores are rounded to six digits, so that equal
    rows tie. `ranking`: all positions, lowest score first, ties in the order of the clusters.
    Cost O(sum n_k^2 d), one block at a time.
    """

    def __init__(self, rows: np.ndarray, orders: list[np.ndarray], memory_gb: float) -> None:
        self.rows, self.orders = rows, orders
        self.block = min(BLOCK, max(1, int(np.sqrt(memory_gb * 2**28))))
        self.scores = np.full(len(rows), -1, np.float32)
        for late, _, cosines in self._blocks(-np.inf):
            self.scores[late] = np.maximum(self.scores[late], cosines.max(axis=1))
        self.scores = np.round(self.scores, 6)
        members = np.concatenate(orders)
        self.ranking: np.ndarray = members[np.argsort(self.scores[members], kind="stable")]

    def _blocks(self, above: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield (positions, earlier positions of the cluster, cosines) for scores above a value.

        Blocks come in the order of the clusters; a cosine with oneself or a later example reads -2.
        """
        for order in self.orders:
            for left in range(0, len(order), self.block):
                i = left + np.flatnonzero(self.scores[order[left : left + self.block]] > above)
                rows = unit(self.rows[order[i]])
                for right in range(0, left + 1 if len(i) else 0, self.block):
                    j = np.arange(right, min(right + self.block, len(order)))
                    cosines = rows @ unit(self.rows[order[j]]).T
                    if right == left:
                        cosines[j >= i[:, None]] = -2
                    yield order[i], order[j], cosines

    def survivors(self, eps: np.ndarray) -> np.ndarray:
        """Return (n, len(eps)) bool: which examples stay, for up to 64 ascending values of eps.

        In order, an example goes if an earlier one *that stayed* has cosine above 1 - eps. Bit q of a
        word says whether an example stays at eps[q], so that all values share one sweep.
        """
        kept = np.full(len(self.rows), 2**64 - 1, np.uint64)
        limit = float(1 - eps[-1] - ROUNDING)
        for late, early, cosines in self._blocks(limit - ROUNDING):
            i, j = np.nonzero(cosines > limit)
            distances = 1 - ROUNDING - cosines[i, j].astype(np.float64)
            similar = _bits_from(np.searchsorted(eps, distances, side="right"))
            starts = np.flatnonzero(np.diff(i, prepend=-1))
            for start, end in pairwise([*starts, len(i)]):
                gone = np.bitwise_or.reduce(kept[early[j[start:end]]] & similar[start:end])
                kept[late[i[start]]] &= ~gone
        return np.stack([kept & np.uint64(1 << q) != 0 for q in range(len(eps))], axis=1)

    def largest_eps(self, budget: int) -> tuple[float, np.ndarray]:
        """Return the largest eps found that leaves at least `budget` >= 1 examples, and who they are.

        Against the kept, at least as many stay as against all. The first grid therefore starts at the eps
        that keeps `budget` examples against all, goes on to those that keep fewer, and moves on until
        too few stay; then it is refined at most twice. The number that stay need not be monotone in
        eps: the largest value on the grid is taken.
        """
        values = 1 - self.scores[self.ranking].astype(np.float64) - 2 * ROUNDING
        top, width = budget - 1, max(GRID, (len(values) - budget) // 4)
        while True:
            low = max(top - width, 0)
            grid = values[np.linspace(top, low, GRID).astype(np.int64)]
            stay = self.survivors(grid)
            best = _last(stay, budget)
            if best < GRID - 1 or low == 0:
                break
            top, width = low, 4 * width
        for _ in range(2):
            if best == GRID - 1 or np.count_nonzero(stay[:, best]) == budget:
                break
            grid = np.linspace(grid[best], grid[best + 1], GRID)
            stay = self.survivors(grid)
            best = _last(stay, budget)
        return float(grid[best]), stay[:, best]


def _last(stay: np.ndarray, budget: int) -> int:
    return int(np.flatnonzero(stay.sum(axis=0) >= budget)[-1])


def _bits_from(first: np.ndarray) -> np.ndarray:
    """Return words whose bits from `first` upwards are set; 64 sets none."""
    table = np.array([(2**64 - 1) >> q << q & (2**64 - 1) for q in range(GRID)] + [0], np.uint64)
    words: np.ndarray = table[first]
    return words


def find_duplicates(
    rows: np.ndarray,
    rng: np.random.Generator,
    keep: Keep,
    clusters: int | None,
    cluster_size: int,
    memory_gb: float,
) -> Duplicates:
    """Cluster (n, d) rows and score them: `clusters` cells, or cells of at most `cluster_size` rows."""
    if clusters is None:
        cells = tree_kmeans(rows, cluster_size, rng, memory_gb=memory_gb)
    else:
        cells = kmeans(rows, clusters, rng, spherical=True, memory_gb=memory_gb)
    return Duplicates(rows, cluster_orders(rows, cells, keep), memory_gb)


def survivors_of(found: Duplicates, eps: float, rule: ChainRule) -> np.ndarray:
    """Return the positions that stay at a given eps, the least similar to an earlier one first."""
    if rule == "against_all":
        stay = found.scores <= 1 - eps - ROUNDING
    else:
        stay = found.survivors(np.array([eps]))[:, 0]
    survivors: np.ndarray = found.ranking[stay[found.ranking]]
    return survivors


def deduplicate(found: Duplicates, budget: int, rule: ChainRule) -> tuple[np.ndarray, float]:
    """Return (positions, eps): exactly `budget` examples, the least similar to an earlier one first.

    against_all: the lowest scores. against_kept: who stays at `largest_eps`, less those with the highest
    scores where more stay than the budget allows. eps lets all of the chosen stay, so it is just below
    zero where equal rows do.
    """
    order = found.ranking
    if budget == 0:
        return order[:0], 2.0
    if rule == "against_all":
        return order[:budget], float(1 - found.scores[order[budget - 1]]) - 2 * ROUNDING
    eps, stay = found.largest_eps(budget)
    kept: np.ndarray = order[stay[order]][:budget]
    return kept, eps
