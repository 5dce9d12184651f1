"""What a method is given and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from winnow.errors import UserError

LARGEST = 1e18


@dataclass(frozen=True)
class View:
    """Arrays over one pool of n examples, and nothing else: no files, no network, no test data.

    labels: (n,) int64, -1 where an example has none. signals: arrays with n rows, by name.
    fraction: the share that the budget came from. memory_gb: bound on a method's largest array; up to
    three of that size may live at once.
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

    size: what the method promises where that is not the budget (a released code that floors shares, a
    method that up-samples). rounds: a schedule is that many subsets one after another in `index`, all of
    the same size; epoch e trains on part e modulo rounds.
    """

    index: np.ndarray
    weight: np.ndarray
    score: Score | None = None
    size: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 1


def subset(
    index: np.ndarray,
    score: Score | None = None,
    size: int | None = None,
    facts: Mapping[str, Any] | None = None,
    weight: np.ndarray | None = None,
    rounds: int = 1,
) -> Subset:
    """Return a subset, with weight 1 for every example unless weights are given."""
    weights = np.ones(len(index), np.float32) if weight is None else np.asarray(weight, np.float32)
    return Subset(np.asarray(index, np.int64), weights, score, size, facts or {}, rounds)


def finite(view: View, name: str, method: str) -> np.ndarray:
    """Return a signal as it was computed; a value that is not finite, or above 1e18, is an error.

    The square of a larger value, summed over a row, is more than float32 holds.
    """
    values = np.asarray(view.signals[name])
    refuse_extremes(values, name, method)
    return values


def refuse_extremes(values: np.ndarray, name: str, method: str) -> None:
    """Raise `UserError` if a value is not finite, or above 1e18; also for parts of a signal."""
    if np.issubdtype(values.dtype, np.floating) and values.size:
        if not np.isfinite(values).all():
            raise UserError(f"{method}: {name}: a value is not finite")
        if max(float(values.max()), -float(values.min())) > LARGEST:
            raise UserError(f"{method}: {name}: a value is too large (more than 1e18)")


def labelled(view: View, method: str) -> np.ndarray:
    """Return the labels; an example without one is an error."""
    if (view.labels < 0).any():
        raise UserError(f"{method}: needs a label for every example; some have none")
    return view.labels


def check(chosen: Subset, view: View, budget: int | None, resamples: bool = False) -> None:
    """Refuse a subset that breaks the contract: range, finite weights (0 or more), exact budget.

    A position may repeat within a round only where the method `resamples`.
    """
    index, weight = chosen.index, chosen.weight
    outside = index[(index < 0) | (index >= view.n)]
    if len(outside):
        raise UserError(f"the method chose position {outside[0]}, outside the pool of {view.n} examples")
    if len(weight) != len(index) or not np.isfinite(weight).all():
        raise UserError("the method's weights are not one finite number per chosen example")
    if (weight < 0).any():
        raise UserError("the method gave a negative weight")
    wanted = (view.n if budget is None else budget) if chosen.size is None else chosen.size
    if len(index) != wanted * chosen.rounds:
        part = f" in {chosen.rounds} rounds" if chosen.rounds > 1 else ""
        raise UserError(f"the method chose {len(index)} examples{part} for a budget of {wanted}")
    for each in [] if resamples else np.split(index, chosen.rounds):
        positions, times = np.unique(each, return_counts=True)
        if (times > 1).any():
            raise UserError(f"the method chose position {positions[times > 1][0]} more than once")
