"""Which examples a short training has not learned yet, and how to show them more often.

`partition` finds them, `resample` and `resample_balanced` repeat them; neither knows of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from winnow.select.engine.quotas import groups_of, quotas

ITERATIONS = 50


def partition(
    outputs: np.ndarray,
    losses: np.ndarray,
    classes: np.ndarray,
    seed: int,
    restarts: int = 1,
    standardised: bool = False,
) -> np.ndarray:
    """Return the mask (n,) bool of the slow examples: per class, the 2-means cluster of higher mean loss.

    outputs: (n, d). losses: (n,). standardised: scale each column to deviation 1 within the class.
    A class that has fewer than two distinct outputs, or whose clusters have equal mean losses, has no
    slow example. Rows are clustered in lexicographic order: the pool's order does not matter.
    """
    slow = np.zeros(len(outputs), bool)
    for members in groups_of(classes):
        group = members[np.lexsort(outputs[members].T[::-1])]
        second = _two_means(outputs[group].astype(np.float32), seed, restarts, standardised)
        if second.any() and not second.all():
            means = losses[group[~second]].mean(), losses[group[second]].mean()
            slow[group] = (means[0] > means[1]) & ~second | (means[1] > means[0]) & second
    return slow


def _two_means(rows: np.ndarray, seed: int, restarts: int, standardised: bool) -> np.ndarray:
    """Return the mask (n,) of the rows in the second of two clusters; none if all rows are equal."""
    import faiss

    if (rows == rows[0]).all():
        return np.zeros(len(rows), bool)
    if standardised:
        deviations = rows.std(axis=0, dtype=np.float64)
        rows = (rows / np.where(deviations > 0, deviations, 1)).astype(np.float32)
    rows = np.ascontiguousarray(rows - rows.mean(axis=0, dtype=np.float64), np.float32)
    model = faiss.Kmeans(
        rows.shape[1], 2, niter=ITERATIONS, nredo=restarts, seed=seed,
        min_points_per_centroid=1, max_points_per_centroid=len(rows),
    )  # fmt: skip
    with _one_thread():
        model.train(rows)
        second: np.ndarray = model.index.search(rows, 1)[1][:, 0] == 1
    return second


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep faiss to one thread: two clusters are too little work for more, which only wait for each other."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def resample(slow: np.ndarray, factor: int) -> np.ndarray:
    """Return all positions in order, then factor - 1 more copies of each slow one; int64."""
    return _with_copies((factor - 1) * slow.astype(np.int64))


def resample_balanced(
    slow: np.ndarray, factor: int, classes: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """As `resample`, and of the same length, but the classes keep the proportions that they had.

    Each class gets its exact share of the copies and repeats its slow examples equally often, some that
    `rng` draws once more. A class without slow examples repeats all of its examples.
    """
    extra = np.zeros(len(slow), np.int64)
    groups = groups_of(classes)
    sizes = [len(group) for group in groups]
    passes, rest = divmod((factor - 1) * int(slow.sum()), len(slow))
    totals = passes * np.array(sizes) + quotas(sizes, rest)
    for group, total in zip(groups, totals, strict=True):
        members = group[slow[group]] if slow[group].any() else group
        extra[members] = total // len(members)
        extra[rng.permutation(members)[: total % len(members)]] += 1
    return _with_copies(extra)


def _with_copies(extra: np.ndarray) -> np.ndarray:
    positions = np.arange(len(extra))
    return np.concatenate([positions, np.repeat(positions, extra)])
