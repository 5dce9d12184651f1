"""k-means on the rows of an embedding matrix of any float type, through faiss, in bounded memory.

faiss takes float32. Training sees a sample of 256 rows per centroid and assignment goes through
blocks, so that a float16 matrix is never copied as a whole.

Rows are visited in *content order*: sorted by a random hash of their bytes, equal rows by position. A
prefix of that order is a random sample that depends on the seed and on the rows, not on where they
stand, so that permuting the pool permutes the clusters, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np

from winnow.select.engine.similarity import squares

BLOCK = 8192
POINTS_PER_CENTROID = 256
ITERATIONS = 25
BRANCHES = 32


@dataclass(frozen=True)
class Clusters:
    """Clusters that have members: positions (in content order) and centroids (k, d) float32."""

    members: list[np.ndarray]
    centroids: np.ndarray

    @cached_property
    def assignment(self) -> np.ndarray:
        """(n,) int64: the cluster of every row; needs every row to be in one."""
        assigned = np.empty(sum(len(cell) for cell in self.members), np.int64)
        for k, cell in enumerate(self.members):
            assigned[cell] = k
        return assigned


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows of norm 1 as float32; a row of zeros stays zero."""
    rows = rows.astype(np.float32)
    norms = np.sqrt(squares(rows))
    rows /= np.where(norms > 0, norms, 1)[:, None]
    return rows


def content_order(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return all positions in an order drawn from `rng` that moves with the rows; O(n d)."""
    width = max(1, rows.dtype.itemsize // 2)
    factors = rng.integers(2**64, size=width * rows.shape[1], dtype=np.uint64)
    keys = [_words(rows[i : i + BLOCK]) @ factors for i in range(0, len(rows), BLOCK)]
    return np.argsort(np.concatenate(keys), kind="stable")


def _words(rows: np.ndarray) -> np.ndarray:
    """Return the bytes of rows, two to an entry where values have two or more, uint64; -0.0 reads 0.0."""
    values = np.ascontiguousarray(rows + rows.dtype.type(0))
    return values.view(np.uint8 if values.itemsize == 1 else np.uint16).astype(np.uint64)


def kmeans(
    rows: np.ndarray,
    k: int,
    rng: np.random.Generator,
    *,
    spherical: bool,
    memory_gb: float,
    among: np.ndarray | None = None,
) -> Clusters:
    """Cluster (n, d) rows into at most k cells: k-means, or spherical k-means of the rows at norm 1.

    among: the positions to cluster, where not all. Cost O(25 * 256 k * k d) to train, O(n k d) to assign.
    """
    order = content_order(rows, rng)
    if among is not None:
        order = order[np.isin(order, among)]
    k = min(k, len(order))
    centroids = _train(rows, order, k, rng, spherical, memory_gb)
    _, nearest = nearest_centroids(rows, order, centroids, spherical=spherical)
    cells = [order[nearest == c] for c in range(k)]
    filled = [c for c in range(k) if len(cells[c])]
    return Clusters([cells[c] for c in filled], centroids[filled])


def tree_kmeans(rows: np.ndarray, size: int, rng: np.random.Generator, *, memory_gb: float) -> Clusters:
    """Cluster by spherical k-means in levels until no cell has more than `size` rows.

    A larger cell is split into as many cells as it needs, at most 32 at a time: O(32 n d) per level and
    log_32(n / size) levels, where one level of n / size centroids would cost O(n^2 d / size). A cell that
    k-means cannot split (equal rows) stays whole. Centroids are the members' mean directions.
    """
    pending: list[np.ndarray] = [content_order(rows, rng)]
    leaves: list[np.ndarray] = []
    while pending:
        cell = pending.pop()
        parts = [cell]
        if len(cell) > size:
            k = min(BRANCHES, ceil(len(cell) / size))
            centroids = _train(rows, cell, k, rng, True, memory_gb)
            _, nearest = nearest_centroids(rows, cell, centroids, spherical=True)
            parts = [part for c in range(k) if len(part := cell[nearest == c])]
        (leaves if len(parts) == 1 else pending).extend(parts)
    return Clusters(leaves, np.stack([_direction(rows, leaf) for leaf in leaves]))


def nearest_centroids(
    rows: np.ndarray, positions: np.ndarray, centroids: np.ndarray, *, spherical: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return (values, clusters) of the nearest centroid of each position.

    values: cosines where `spherical`, which needs centroids of norm 1, else squared distances.
    """
    import faiss

    index = (faiss.IndexFlatIP if spherical else faiss.IndexFlatL2)(centroids.shape[1])
    index.add(centroids)
    values, found = np.empty(len(positions), np.float32), np.empty(len(positions), np.int64)
    for i in range(0, len(positions), BLOCK):
        part = slice(i, i + BLOCK)
        near, which = index.search(_block(rows, positions[part], spherical), 1)
        values[part], found[part] = near[:, 0], which[:, 0]
    return values, found


def prototype_distances(rows: np.ndarray, positions: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return 1 - cosine to the nearest centroid, at least 0, (len(positions),) float32.

    Rounded to six digits, the accuracy of float32 inner products: equal rows must tie.
    """
    cosines, _ = nearest_centroids(rows, positions, unit(centroids), spherical=True)
    return np.maximum(np.round(1 - cosines, 6), 0)


def _train(
    rows: np.ndarray, order: np.ndarray, k: int, rng: np.random.Generator, spherical: bool, memory_gb: float
) -> np.ndarray:
    """Return (k, d) centroids of a sample: the first positions of a content order."""
    import faiss

    fits = int(memory_gb * 2**30 / (4 * rows.shape[1]))
    sample = order[: max(k, min(k * POINTS_PER_CENTROID, fits))]
    model = faiss.Kmeans(
        rows.shape[1],
        k,
        niter=ITERATIONS,
        spherical=spherical,
        seed=int(rng.integers(2**31)),
        min_points_per_centroid=1,
        max_points_per_centroid=len(sample),
    )
    model.train(_block(rows, sample, spherical))
    return np.asarray(model.centroids)


def _block(rows: np.ndarray, positions: np.ndarray, spherical: bool) -> np.ndarray:
    return unit(rows[positions]) if spherical else rows[positions].astype(np.float32)


def _direction(rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    blocks = range(0, len(positions), BLOCK)
    total = sum(unit(rows[positions[i : i + BLOCK]]).sum(axis=0, dtype=np.float64) for i in blocks)
    direction: np.ndarray = unit(np.atleast_2d(total))[0]
    return direction
