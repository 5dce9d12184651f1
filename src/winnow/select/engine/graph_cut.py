"""Greedy and double greedy for the cut F(S) = sum of s_ij over i outside S, j in S.

F is submodular and not monotone for s >= 0. gain(i | S) = sum_j s_ij - s_ii - 2 sum_{j in S} s_ij.
"""

from __future__ import annotations

import numpy as np

from winnow.select.engine.greedy import naive
from winnow.select.engine.set_functions import GraphCut
from winnow.select.engine.similarity import Similarity


def greedy(
    similarity: Similarity, budget: int, start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (order, gains) of exact greedy; ties go to the lowest position.

    start: a set to extend (its members come first in the order, with the gains of adding them in
    that order). Each step costs one column: O(budget n) beside the similarities.
    """
    return naive(GraphCut(similarity), budget, () if start is None else start)


def double_greedy(similarity: Similarity, chosen: np.ndarray) -> np.ndarray:
    """Return the members of `chosen` that deterministic double greedy keeps, in their order.

    Unconstrained maximisation of F over subsets of `chosen` (Buchbinder et al. 2012, algorithm 1):
    an example stays when adding it to the growing set gains at least what dropping it from the
    shrinking set does.
    """
    rows = similarity.row_sums(diagonal=False)[chosen]
    block = np.stack([similarity.column(int(j))[chosen] for j in chosen]) if len(chosen) else np.empty((0, 0))
    np.fill_diagonal(block, 0)
    to_grown = np.zeros(len(chosen))
    to_shrunk = block.sum(axis=0, dtype=np.float64)
    kept = np.ones(len(chosen), bool)
    for u in range(len(chosen)):
        added, dropped = rows[u] - 2 * to_grown[u], 2 * to_shrunk[u] - rows[u]
        if added >= dropped:
            to_grown += block[u]
        else:
            kept[u] = False
            to_shrunk -= block[u]
    return chosen[kept]


def cut_value(similarity: Similarity, chosen: np.ndarray) -> float:
    """Return F of a set, computed from its definition."""
    inside = np.zeros(similarity.n, bool)
    inside[chosen] = True
    return float(sum(similarity.column(int(j))[~inside].sum(dtype=np.float64) for j in chosen))
