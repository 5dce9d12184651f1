"""Budgets per group: exact totals, proportional shares, nested for every budget.

Groups are merged by the priority (r + 1/2) / n_k of their r-th example. A prefix of length m of the
merged order holds each group's Webster (Sainte-Lague) quota: m examples in all, and never fewer of a
group when m grows. Flooring each group's share would lose examples.

A quota is near m n_k / n, but no rule of priorities keeps all of them within one of it: with many small
groups a large one may be far off. Of sizes 1000 and 100 times 1, a budget of 500 gives 500 and all zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def interleave(orders: Sequence[np.ndarray], sizes: Sequence[int] | None = None) -> np.ndarray:
    """Merge per-group orders so that every prefix is proportional; ties go to the earlier group.

    orders: positions per group, best first. sizes: the groups' full sizes where orders are cut short.
    """
    full = [len(order) for order in orders] if sizes is None else list(sizes)
    if not orders:
        return np.empty(0, np.int64)
    priority = np.concatenate(
        [(np.arange(len(o)) + 0.5) / max(size, 1) for o, size in zip(orders, full, strict=True)]
    )
    return np.concatenate(orders)[np.argsort(priority, kind="stable")]


def quotas(sizes: Sequence[int], budget: int) -> np.ndarray:
    """Return how many of each group a prefix of length `budget` holds; they add up to the budget."""
    groups = [np.full(size, k) for k, size in enumerate(sizes)]
    return np.bincount(interleave(groups)[:budget], minlength=len(sizes))


def groups_of(classes: np.ndarray) -> list[np.ndarray]:
    """Return the positions of each class in ascending class order; empty classes do not appear."""
    order = np.argsort(classes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(classes[order])) + 1) if len(order) else []
