"""Greedy maximisation of a set function under a budget: naive, lazy and stochastic.

All three give an order (the budget's answer is its prefix for naive and lazy) with the gain of every
pick. Ties go to the lowest position.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

Order = tuple[np.ndarray, np.ndarray]


class SetFunction(ABC):
    """A function F of subsets of n examples, and the subset S that it has grown so far.

    submodular: gains never grow with S, which is what lazy evaluation needs.
    """

    n: int
    submodular = True

    @abstractmethod
    def gains(self, candidates: np.ndarray) -> np.ndarray:
        """Return F(S + v) - F(S) for each candidate v outside S, float64, exact."""

    @abstractmethod
    def add(self, v: int, bound: np.ndarray | None = None) -> None:
        """Add v to S. bound: (n,) upper bounds of the gains, which may be lowered where that is cheap."""


def naive(function: SetFunction, budget: int, start: Sequence[int] | np.ndarray = ()) -> Order:
    """Return (order, gains), evaluating every gain at every step: the reference.

    start: examples to add first, in that order. It is also the fastest where a function keeps all its
    gains up to date.
    """
    every = np.arange(function.n)
    order, gains = np.empty(budget, np.int64), np.empty(budget)
    for step in range(budget):
        gain = function.gains(every)
        gain[order[:step]] = -np.inf
        best = int(start[step]) if step < len(start) else int(np.argmax(gain))
        order[step], gains[step] = best, gain[best]
        function.add(best)
    return order, gains


def lazy(function: SetFunction, budget: int) -> Order:
    """Return what `naive` does, evaluating few gains (Minoux 1978), in batches that grow.

    The gain of an earlier step bounds today's. A step ends when the largest bound is one of today's
    gains; at equal bounds the lowest position is looked at first, so the tie rule is that of `naive`.
    """
    if not function.submodular:
        raise ValueError("lazy evaluation needs a submodular function")
    order, gains = np.empty(budget, np.int64), np.empty(budget)
    bound = function.gains(np.arange(function.n)) if budget else np.empty(0)
    known_at = np.zeros(function.n, np.int64)
    for step in range(budget):
        today, batch = -np.inf, 1
        while known_at[best := int(np.argmax(bound))] < step:
            stale = _largest(bound, today, batch) if batch > 1 else np.array([best])
            bound[stale], known_at[stale] = function.gains(stale), step
            today, batch = max(today, float(bound[stale].max())), 4 * batch
        order[step], gains[step] = best, bound[best]
        bound[best] = -np.inf
        function.add(best, bound)
    return order, gains


def _largest(bound: np.ndarray, above: float, count: int) -> np.ndarray:
    """Return where up to `count` of the largest bounds above `above` are; where the largest is, if none."""
    rivals = np.flatnonzero(bound > above)
    if len(rivals) > count:
        rivals = rivals[np.argpartition(-bound[rivals], count - 1)[:count]]
    return rivals if len(rivals) else np.array([np.argmax(bound)])


def stochastic(function: SetFunction, budget: int, rng: np.random.Generator, epsilon: float) -> Order:
    """Return (order, gains) of stochastic greedy (Mirzasoleiman et al. 2015).

    Each step takes the best of (n / budget) log(1 / epsilon) examples drawn from those left. For monotone
    submodular functions the expected value is at least 1 - 1/e - epsilon of the optimum.
    """
    sample = math.ceil(function.n / max(budget, 1) * math.log(1 / epsilon))
    left = np.arange(function.n)
    order, gains = np.empty(budget, np.int64), np.empty(budget)
    for step in range(budget):
        drawn = rng.choice(len(left), min(sample, len(left)), replace=False)
        candidates = np.sort(left[drawn])
        gain = function.gains(candidates)
        best = int(np.argmax(gain))
        order[step], gains[step] = candidates[best], gain[best]
        function.add(int(candidates[best]))
        left = left[left != candidates[best]]
    return order, gains
