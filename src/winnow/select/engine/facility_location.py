"""Facility location: F(S) = sum over i of max over j in S of s_ij, for similarities of at least zero.

Nothing needs an (n, n) matrix. While few are chosen, every pick changes the best similarity of many
examples: their rows are computed once more and lower the bounds of all candidates at once, about log k
passes over the matrix for k picks. Later, few pairs still have s_ij above the best similarity of i, and
no others can ever count: as soon as these fit in memory they are kept, and the rest is sparse and exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from winnow.select.engine.compiled import compiled, njit, parts, share, summing
from winnow.select.engine.greedy import SetFunction
from winnow.select.engine.similarity import Similarity, Sparse

SAMPLE = 256
CHUNK = 2048
# Bounds stay bounds under rounding: differences and sums of four are in single precision (error 6e-8).
LOSS_SLACK, BOUND_SLACK = 1e-6, 2e-7


class FacilityLocation(SetFunction):
    """Facility location over dense, computed or sparse similarities, monotone and submodular.

    memory_gb: what the pairs that still count may take (8 bytes each). best: (n,) float32, the
    similarity of each example to S.
    """

    def __init__(self, similarity: Similarity, memory_gb: float = 2.0) -> None:
        self.similarity = similarity
        self.n = similarity.n
        self.memory_gb = memory_gb
        self.best = np.zeros(self.n, np.float32)
        self.size = 0

    def value(self) -> float:
        """Return F(S)."""
        return float(self.best.sum(dtype=np.float64))

    def gains(self, candidates: np.ndarray) -> np.ndarray:
        gains = np.empty(len(candidates))
        if isinstance(self.similarity, Sparse):
            rows = self.similarity
            share(len(candidates) * len(rows.members) // self.n)
            _sparse_gains(rows.starts, rows.members, rows.values, candidates, self.best, gains)
            return gains
        if self.size == 0 and self.similarity.dense is None:
            sums: np.ndarray = self.similarity.row_sums()[candidates]
            return sums
        for block, rows_of_block, place in self._blocks(candidates):
            share(len(rows_of_block) * self.n)
            _gains(block, rows_of_block, self.best, gains[place])
        return gains

    def add(self, v: int, bound: np.ndarray | None = None) -> None:
        if isinstance(self.similarity, Sparse):
            members, values = self.similarity.row(v)
            self.best[members] = np.maximum(self.best[members], values)
            return
        column = self.similarity.column(v)
        closer = np.flatnonzero(column > self.best)
        if bound is not None:
            for block, rows, place in self._blocks(closer):
                share(len(rows) * self.n)
                _lower(block, rows, self.best[closer[place]], column[closer[place]], bound)
        self.best[closer] = column[closer]
        self.size += 1
        if self.similarity.dense is None and self.size & (self.size - 1) == 0:
            self._keep_what_counts()

    def _blocks(self, positions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, slice]]:
        """Yield (block, its rows to read, their place in `positions`) until all positions are covered."""
        if self.similarity.dense is not None:
            yield self.similarity.dense, positions, slice(0, len(positions))
            return
        for place in self.similarity.parts():
            if place.start < len(positions):
                block = self.similarity.block(positions[place])
                yield block, np.arange(len(block)), slice(place.start, place.start + len(block))

    def _keep_what_counts(self) -> None:
        """Turn sparse once the pairs with s_ij above the best of i are few enough for the memory."""
        capacity = int(self.memory_gb * 2**30 / 8)
        sample = self.similarity.block(np.arange(0, self.n, max(1, self.n // SAMPLE)))
        if float((sample > self.best).mean()) * self.n**2 > 0.9 * capacity:
            return
        starts = np.zeros(self.n + 1, np.int64)
        members, values = np.empty(capacity, np.int32), np.empty(capacity, np.float32)
        for part in self.similarity.parts():
            block = self.similarity.block(part)
            counts = np.empty(len(block), np.int64)
            share(block.size)
            _count(block, self.best, counts)
            starts[part.start + 1 : part.stop + 1] = starts[part.start] + np.cumsum(counts)
            if starts[part.stop] > capacity:
                return
            _keep(block, self.best, starts[part.start : part.stop], members, values)
        self.similarity = Sparse(starts, members[: starts[-1]], values[: starts[-1]])


def cluster_sizes(similarity: Similarity, chosen: np.ndarray) -> np.ndarray:
    """Return how many examples each chosen one is the most similar to, (k,); they add up to n.

    An example that is equally similar to several counts for the one chosen first.
    """
    best, nearest = np.full(similarity.n, -np.inf, np.float32), np.zeros(similarity.n, np.int64)
    for rank, v in enumerate(chosen):
        column = similarity.column(int(v))
        closer = column > best
        best[closer], nearest[closer] = column[closer], rank
    return np.bincount(nearest, minlength=len(chosen)) if len(chosen) else np.empty(0, np.int64)


@summing
def _gains(block: np.ndarray, rows: np.ndarray, best: np.ndarray, gains: np.ndarray) -> None:
    for c in parts(len(rows)):
        row = block[rows[c]]
        total = 0.0
        for i in range(len(best)):
            total += max(row[i] - best[i], np.float32(0))
        gains[c] = total


@summing
def _sparse_gains(
    starts: np.ndarray,
    members: np.ndarray,
    values: np.ndarray,
    candidates: np.ndarray,
    best: np.ndarray,
    gains: np.ndarray,
) -> None:
    for c in parts(len(candidates)):
        total = 0.0
        for e in range(starts[candidates[c]], starts[candidates[c] + 1]):
            total += max(values[e] - best[members[e]], np.float32(0))
        gains[c] = total


@njit(cache=True)
def _rise(value: np.float32, old: np.float32, new: np.float32) -> np.float32:
    """Return how much of the step from old to new lies below the value."""
    return min(max(value, old), new) - old


@compiled
def _lower(block: np.ndarray, rows: np.ndarray, old: np.ndarray, new: np.ndarray, bound: np.ndarray) -> None:
    """Lower the bounds by what the rows, whose best rose from old to new, no longer gain.

    Four rows are added up in single precision first: half the time of adding each in double.
    """
    fours = len(rows) // 4 * 4
    for chunk in parts((len(bound) + CHUNK - 1) // CHUNK):
        low, high = chunk * CHUNK, min((chunk + 1) * CHUNK, len(bound))
        lost = np.zeros(high - low)
        for r in range(0, fours, 4):
            a, b = block[rows[r], low:high], block[rows[r + 1], low:high]
            c, d = block[rows[r + 2], low:high], block[rows[r + 3], low:high]
            for v in range(high - low):
                first = _rise(a[v], old[r], new[r]) + _rise(b[v], old[r + 1], new[r + 1])
                second = _rise(c[v], old[r + 2], new[r + 2]) + _rise(d[v], old[r + 3], new[r + 3])
                lost[v] += first + second
        for r in range(fours, len(rows)):
            for v in range(high - low):
                lost[v] += _rise(block[rows[r], low + v], old[r], new[r])
        for v in range(high - low):
            if lost[v] > 0:
                bound[low + v] = bound[low + v] * (1 + BOUND_SLACK) - lost[v] * (1 - LOSS_SLACK)


@compiled
def _count(block: np.ndarray, best: np.ndarray, counts: np.ndarray) -> None:
    for r in parts(len(block)):
        count = 0
        for i in range(len(best)):
            count += block[r, i] > best[i]
        counts[r] = count


@compiled
def _keep(
    block: np.ndarray, best: np.ndarray, starts: np.ndarray, members: np.ndarray, values: np.ndarray
) -> None:
    for r in parts(len(block)):
        at = starts[r]
        for i in range(len(best)):
            if block[r, i] > best[i]:
                members[at], values[at] = i, block[r, i]
                at += 1
