"""Farthest-first traversal under D(i, j) = sum_c (a_ic - a_jc)(b_ic - b_jc), each distance only if needed.

a = b = features gives the squared Euclidean distance; a = p / 2, b = log p the symmetric KL divergence.
Every term is a difference, so equal rows are at distance 0 exactly and nothing cancels.

An example's distance to the nearest centre only falls as centres are added. Its last known value is thus
an upper bound, and the bounds are kept in a heap: the top is compared with the centres that it has not met,
and goes back down once its bound is below the next one. The picks are those of the plain loop, from the
same numbers; in a pool of any spread most pairs are never compared. O(budget n d) at worst, 24 n bytes.
"""

from __future__ import annotations

import math

import numpy as np

from winnow.select.engine.compiled import njit

FREE_ORDER = {"reassoc", "contract", "nsz"}


def farthest_first(a: np.ndarray, b: np.ndarray, budget: int, first: int) -> tuple[np.ndarray, float]:
    """Return (order, radius): positions in the order picked, and max_i min_j D(i, j) over picks j.

    a, b: (n, d) float32, contiguous. first: the position to begin with. Ties go to the lowest position.
    The radius is infinite for budget 0 and zero for budget n.
    """
    n = len(a)
    if budget == 0:
        return np.empty(0, np.int64), math.inf
    order, gaps = _traverse(a, b, min(budget + 1, n), first)
    return order[:budget], float(gaps[budget]) if budget < n else 0.0


def most_central(a: np.ndarray, b: np.ndarray) -> int:
    """Return the position with the smallest mean D to all rows: for a = b the one nearest the mean.

    That mean is sum_c (a_ic - mean a_c)(b_ic - mean b_c) plus a constant.
    """
    mean_a = a.mean(axis=0, dtype=np.float64)
    mean_b = mean_a if b is a else b.mean(axis=0, dtype=np.float64)
    return int(np.argmin(_to_point(a, b, mean_a, mean_b)))


@njit(cache=True, fastmath=FREE_ORDER)
def _distance(a: np.ndarray, b: np.ndarray, i: int, j: int) -> np.float32:
    total = np.float32(0)
    for c in range(a.shape[1]):
        total += (a[i, c] - a[j, c]) * (b[i, c] - b[j, c])
    return total


@njit(cache=True, fastmath=FREE_ORDER)
def _to_point(a: np.ndarray, b: np.ndarray, point_a: np.ndarray, point_b: np.ndarray) -> np.ndarray:
    out = np.zeros(len(a))
    for i in range(len(a)):
        for c in range(a.shape[1]):
            out[i] += (a[i, c] - point_a[c]) * (b[i, c] - point_b[c])
    return out


@njit(cache=True)
def _sift_down(heap: np.ndarray, bound: np.ndarray, parent: int) -> None:
    """Restore the heap (largest bound on top, then lowest position) below `parent`."""
    moved = heap[parent]
    while True:
        child = 2 * parent + 1
        if child >= len(heap):
            break
        if child + 1 < len(heap) and _before(heap[child + 1], heap[child], bound):
            child += 1
        if not _before(heap[child], moved, bound):
            break
        heap[parent] = heap[child]
        parent = child
    heap[parent] = moved


@njit(cache=True)
def _before(i: int, j: int, bound: np.ndarray) -> bool:
    return bool(bound[i] > bound[j] or (bound[i] == bound[j] and i < j))


@njit(cache=True)
def _traverse(a: np.ndarray, b: np.ndarray, budget: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the picks and each one's distance to those before it (infinite for the first)."""
    n = len(a)
    order, gaps = np.empty(budget, np.int64), np.empty(budget, np.float32)
    order[0], gaps[0] = first, np.inf
    bound = np.empty(n, np.float32)
    for i in range(n):
        bound[i] = _distance(a, b, i, first)
    bound[first] = -1
    met = np.ones(n, np.int64)
    heap = np.arange(n)
    for parent in range(n // 2 - 1, -1, -1):
        _sift_down(heap, bound, parent)
    for k in range(1, budget):
        while met[heap[0]] < k:
            top = heap[0]
            rival = bound[heap[1]] if n == 2 else max(bound[heap[1]], bound[heap[2]])
            while met[top] < k and bound[top] >= rival:
                bound[top] = min(bound[top], _distance(a, b, top, order[met[top]]))
                met[top] += 1
            _sift_down(heap, bound, 0)
        order[k], gaps[k] = heap[0], bound[heap[0]]
        bound[heap[0]] = -1
        _sift_down(heap, bound, 0)
    return order, gaps
