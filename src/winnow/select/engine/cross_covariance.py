"""Image-text similarities within one latent class, and the greedy that spends them.

With unit rows a_i of images and b_j of captions, S_ij = a_i . b_j where that is above a threshold, else 0.
Picking j takes (S_ij + S_ji) / n from every i of the class: what the pair would add is covered by j
already.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

BLOCK = 512
"""Rows of a block of similarities: two blocks of float32 fit a core's cache."""

CACHED_ROWS = 256


@dataclass
class CrossSimilarity:
    """T = S + S' of one class, in memory if it fits `memory_gb`, else computed again row by row.

    images, texts: (n, d) float32.
    """

    images: np.ndarray
    texts: np.ndarray
    threshold: float | None
    memory_gb: float
    sums: np.ndarray = field(init=False)
    stored: np.ndarray | None = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.images)
        self.stored = np.empty((n, n), np.float32) if 4 * n * n <= self.memory_gb * 1e9 else None
        self.sums = np.zeros(n)
        self._fill()

    def _fill(self) -> None:
        """Compute all similarities once, block by block: their row sums, and the matrix where it fits."""
        from winnow.select.engine.cross_covariance_loops import add_both

        n, floor = len(self.images), self._floor
        nothing = np.empty((0, 0), np.float32)
        for i in range(0, n, BLOCK):
            for j in range(i, n, BLOCK):
                one = self.images[i : i + BLOCK] @ self.texts[j : j + BLOCK].T
                other = one if i == j else self.images[j : j + BLOCK] @ self.texts[i : i + BLOCK].T
                add_both(one, other, floor, i, j, self.sums, nothing if self.stored is None else self.stored)

    @property
    def _floor(self) -> np.float32:
        return np.float32(-np.inf if self.threshold is None else self.threshold)

    def rows(self, chosen: np.ndarray) -> np.ndarray:
        """Return rows of T, (len(chosen), n) float32."""
        found = self._above(self.images[chosen] @ self.texts.T)
        found += self._above(self.texts[chosen] @ self.images.T)
        return found

    def _above(self, values: np.ndarray) -> np.ndarray:
        values[values <= self._floor] = 0
        return values


@dataclass(frozen=True)
class Penalty:
    """What a pick costs the others of its class, and when it is charged.

    period: after pick number period - 1, 2 period - 1, ... of the class; None charges nothing. over_all:
    every charge counts all picks so far, as released, not only those since the last one. cross, label:
    weights.
    """

    period: int | None = 1
    over_all: bool = False
    cross: float = 1.0
    label: float = 0.5


def greedy_order(
    similarity: CrossSimilarity, gains: np.ndarray, labels: np.ndarray, penalty: Penalty, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first `count` picks of a class and what each was worth when it was picked.

    gains: (n,) float64, what a pair is worth before any pick. labels: (n,) similarity to the class's name.
    The largest gain is picked, the first of equal ones. O(count n) once the similarities are there.
    """
    from winnow.select.engine.cross_covariance_loops import advance

    n = len(gains)
    if penalty.period is None:
        order = np.argsort(-gains, kind="stable")[:count]
        return order, gains[order]
    left = gains.astype(np.float64)
    sums, named = penalty.cross * similarity.sums / n**2, penalty.label * labels.astype(np.float64) / n
    order, values = np.empty(count, np.int64), np.empty(count)
    state, spent = np.zeros(2, np.int64), np.zeros(1)
    rows, slot = _first_rows(similarity)
    charge = (penalty.cross / n, sums, named, penalty.period, penalty.over_all)
    while True:
        advance(left, *charge, rows, slot, order, values, state, spent)
        if state[0] == count:
            return order, values
        waiting = order[state[1] : state[0]]
        next_best = np.argpartition(-left, min(CACHED_ROWS, n - 1))[:CACHED_ROWS]
        wanted = np.concatenate([waiting, next_best[np.isfinite(left[next_best])]])
        rows, slot[:] = similarity.rows(wanted), -1
        slot[wanted] = np.arange(len(wanted))


def _first_rows(similarity: CrossSimilarity) -> tuple[np.ndarray, np.ndarray]:
    n = len(similarity.images)
    if similarity.stored is not None:
        return similarity.stored, np.arange(n)
    return np.empty((0, n), np.float32), np.full(n, -1)


def merge_by_value(orders: list[np.ndarray], values: list[np.ndarray]) -> np.ndarray:
    """Return the order in which always the class whose next pick is worth most is asked for it.

    A pick is there when the ones before it in its class are gone, so what counts is the least value up to it.
    Equal values go to the earlier class.
    """
    if not orders:
        return np.empty(0, np.int64)
    keys = np.concatenate([np.minimum.accumulate(value) for value in values])
    return np.concatenate(orders)[np.argsort(-keys, kind="stable")]
