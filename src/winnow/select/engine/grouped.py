"""Run a chooser on the whole pool, or on every class with its exact share of the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from winnow.select.engine.quotas import groups_of, interleave, quotas
from winnow.select.engine.subset import Subset, View, labelled, subset

Grouping = Literal["none", "labels"]
Choice = tuple[np.ndarray, Mapping[str, Any]]


def choose_in_groups(
    view: View,
    budget: int | None,
    rows: np.ndarray,
    by: Grouping,
    method: str,
    choose: Callable[[np.ndarray, int], Choice],
) -> Subset:
    """Return the union of the groups' choices, interleaved so that every prefix is proportional.

    rows: (n, ...). choose: maps a group's rows and its count to positions among them, best first, and facts.
    """
    groups = groups_of(labelled(view, method)) if by == "labels" else [np.arange(view.n)]
    sizes = [len(group) for group in groups]
    counts = quotas(sizes, view.n if budget is None else budget)
    orders, facts = [], []
    for group, count in zip(groups, counts, strict=True):
        order, fact = choose(rows if len(group) == view.n else rows[group], int(count))
        orders.append(group[order])
        facts.append({"size": len(group), "chosen": int(count), **fact})
    return subset(interleave(orders, sizes), facts={"groups": facts})
