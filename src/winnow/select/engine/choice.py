"""Methods that look at similarities: the parameters they share, and how they are run.

Examples are put in the order of their values before anything else: two that gain the same (the members of
an isolated pair do, in facility location) are told apart by what they are, not by where the pool has them,
and rounding is the same for every order of the pool. Equal examples stay in the pool's order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from winnow.registry import Params, Signals
from winnow.select.engine.gradients import Factors
from winnow.select.engine.grouped import Choice, Grouping, choose_in_groups
from winnow.select.engine.similarity import Closeness, Cosine, Similarity, Storage, Vectors
from winnow.select.engine.subset import Subset, View, finite

LEAD = 16
"""Values of a row that nearly always tell it from the others."""


class SimilarityParams(Params):
    """similarity: (1 + cos) / 2 or max d - d of features, or (1 + cos) / 2 of last-layer gradients."""

    similarity: Literal["cosine", "euclidean", "gradient"] = "cosine"
    storage: Storage = "float32"
    quotas: Grouping = "none"


def similarity_needs(params: SimilarityParams) -> Signals:
    return {"features": {}, "logits": {}} if params.similarity == "gradient" else {"features": {}}


def choose_by_similarity(
    view: View,
    budget: int | None,
    params: SimilarityParams,
    method: str,
    choose: Callable[[Similarity, int], Choice],
) -> Subset:
    """Return the union of the groups' choices. choose: similarities and a count to an order, and facts."""
    rows = finite(view, "features", method).astype(np.float32, copy=False)
    factors = Factors.of(view, method) if params.similarity == "gradient" else None
    values = [rows] if factors is None else [rows, factors.residual]

    def similarity_of(group: np.ndarray) -> Similarity:
        if factors is not None:
            return Cosine(factors.take(group), view.memory_gb, params.storage)
        if params.similarity == "cosine":
            return Cosine(Vectors(rows[group]), view.memory_gb, params.storage)
        return Closeness(centred(rows[group]), view.memory_gb, params.storage)

    def choose_group(group: np.ndarray, count: int) -> Choice:
        return choose(similarity_of(group), count)

    inner = in_order_of_value(choose_group, *values)
    return choose_in_groups(view, budget, np.arange(view.n), params.quotas, method, inner)


def in_order_of_value(
    choose: Callable[[np.ndarray, int], Choice], *values: np.ndarray
) -> Callable[[np.ndarray, int], Choice]:
    """Return `choose` (positions, count) such that it meets positions in the order of values, (n, d) each."""

    def chosen(group: np.ndarray, count: int) -> Choice:
        place = order_of_value(*values, group=group)
        order, facts = choose(group[place], count)
        return place[order], facts

    return chosen


def order_of_value(*values: np.ndarray, group: np.ndarray | None = None) -> np.ndarray:
    """Return the positions in a group (default: all) in the order of the bytes of their values, (n, d) each.

    Equal rows keep their order. All values are read only of rows that agree in the first few.
    """
    group = np.arange(len(values[0])) if group is None else group
    lead = values[0][group, :LEAD]
    order = _by_bytes(lead)
    same = (lead[order[1:]] == lead[order[:-1]]).all(axis=1)
    tied = np.zeros(len(order), bool)
    tied[1:] |= same
    tied[:-1] |= same
    rows = order[tied]
    order[tied] = rows[_by_bytes(np.concatenate([part[group[rows]] for part in values], axis=1))]
    return order


def _by_bytes(values: np.ndarray) -> np.ndarray:
    rows = np.ascontiguousarray(values + 0.0)  # -0.0 and 0.0 are equal, and their bytes are not
    whole_rows = np.dtype((np.void, max(rows.shape[1], 1) * rows.dtype.itemsize))
    return np.argsort(rows.view(whole_rows).ravel(), kind="stable")


def centred(rows: np.ndarray) -> Vectors:
    """Return the rows less their mean in float64, which keeps small distances apart from rounding."""
    exact = rows.astype(np.float64)
    return Vectors(exact - exact.mean(axis=0)) if len(rows) else Vectors(exact)
