"""What a method is given and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from winnow.errors import UserError


@dataclass(frozen=True)
class View:
    """Arrays over one pool of n examples, and nothing else: no files, no network, no test data.

    labels: (n,) int64, -1 where an example has none. signals: arrays with n rows, by name.
    fraction: the share that the budget came from. memory_gb: bound on a method's largest array.
    """

    n: int
    labels: np.ndarray
    signals: Mapping[str, np.ndarray] = field(default_factory=dict)
    fraction: float | None = None
    memory_gb: float = 2.0


@dataclass(frozen=True)
class Score:
    """One value per example of the pool, with the end to keep: it cannot be used without knowing it."""

    values: np.ndarray
    keep: Literal["high", "low"]

    def order(self) -> np.ndarray:
        """Return all positions, the ones to keep first; equal values keep their order in the pool."""
        values = -self.values if self.keep == "high" else self.values
        return np.argsort(values, kind="stable")


@dataclass(frozen=True)
class Subset:
    """Positions in the pool in selection order, with weights; a position may repeat (up-sampling).

    size: what the method promises where that is not the budget (a released code that floors shares).
    """

    index: np.ndarray
    weight: np.ndarray
    score: Score | None = None
    size: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def subset(
    index: np.ndarray,
    score: Score | None = None,
    size: int | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Subset:
    """Return a subset with weight 1 for every example."""
    return Subset(index.astype(np.int64), np.ones(len(index), np.float32), score, size, facts or {})


def check(chosen: Subset, view: View, budget: int | None) -> None:
    """Refuse a subset that breaks the contract: range, finite weights, exact budget."""
    index, weight = chosen.index, chosen.weight
    if len(index) and (index.min() < 0 or index.max() >= view.n):
        raise UserError(f"the method chose position {index.max()}, outside the pool of {view.n} examples")
    if len(weight) != len(index) or not np.isfinite(weight).all():
        raise UserError("the method's weights are not one finite number per chosen example")
    wanted = (view.n if budget is None else budget) if chosen.size is None else chosen.size
    if len(index) != wanted:
        raise UserError(f"the method chose {len(index)} examples for a budget of {wanted}")
