"""Orthogonal matching pursuit on last-layer gradients: min ||G - sum w_i g_i||^2 + lam ||w||^2.

Each step adds the example whose gradient has the largest inner product with the residual, and solves for
all weights again. Non-negative pursuit holds the exact minimum over w >= 0 on its support (Lawson and
Hanson's active set, stopped at the budget): an example whose weight would turn negative leaves and may
come back. For k picks of n: time O(k n (k + C + d) + k^3), memory O(k n) while that fits, else O(n C + k^2)
and time O(k n C d + k^3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from winnow.select.engine.gradients import Factors


@dataclass(frozen=True)
class Pursuit:
    """order: positions, first pick first; weight: theirs, float64."""

    order: np.ndarray
    weight: np.ndarray


class Support:
    """The chosen gradients, and the inverse M of the Cholesky factor: M M' = (Gram + lam I)^-1; float64.

    memory_gb: bound on the inner products with all n gradients that are kept for each chosen one.
    """

    def __init__(
        self, capacity: int, factors: Factors, target: np.ndarray, lam: float, memory_gb: float
    ) -> None:
        self.size = 0
        self.exact = capacity * factors.n * factors.features.itemsize > memory_gb * 2**30
        self._all, self._target, self._lam = factors, target.astype(np.float64), lam
        self._dtype = factors.features.dtype
        self._with_target = factors.inner(target.astype(self._dtype))
        self._positions = np.empty(capacity, np.int64)
        self._residual = np.empty((capacity, factors.residual.shape[1]))
        self._features = np.empty((capacity, factors.features.shape[1]))
        self._with_all = np.empty((0 if self.exact else capacity, factors.n), self._dtype)
        self._inverse = np.zeros((capacity, capacity))

    @property
    def positions(self) -> np.ndarray:
        return self._positions[: self.size]

    @property
    def factors(self) -> Factors:
        return Factors(self._residual[: self.size], self._features[: self.size])

    def add(self, position: int) -> None:
        k = self.size
        self._positions[k] = position
        self._residual[k], self._features[k] = self._all.residual[position], self._all.features[position]
        if not self.exact:
            self._with_all[k] = self._all.gram(slice(position, position + 1), slice(None))[0]
        self.size += 1
        self._factorise(k)

    def keep(self, kept: np.ndarray) -> None:
        """Drop the examples outside the mask, (size,)."""
        first, size = int(np.argmin(kept)), int(kept.sum())
        arrays = [self._positions, self._residual, self._features]
        for array in arrays if self.exact else [*arrays, self._with_all]:
            array[first:size] = array[first : self.size][kept[first:]]
        self.size = size
        self._factorise(first)

    def solve(self) -> np.ndarray:
        """Return the minimising weights of the support, of either sign."""
        inverse = self._inverse[: self.size, : self.size]
        weights: np.ndarray = inverse @ (inverse.T @ self._with_target[self.positions])
        return weights

    def gain(self, weight: np.ndarray) -> np.ndarray:
        """Return every gradient's inner product with the residual, (n,); -inf for the support itself."""
        if self.exact:
            residual = self._target - self.factors.sum(weight)
            gain = self._all.inner(residual.astype(self._dtype))
        else:
            gain = self._with_target - weight.astype(self._dtype) @ self._with_all[: self.size]
        gain[self.positions] = -np.inf
        return gain

    def _factorise(self, first: int) -> None:
        """Compute M's columns from `first` on; those to the left hold."""
        old, new = slice(0, first), slice(first, self.size)
        gram = self.factors.gram(slice(None), new)
        left = self._inverse[old, old].T @ gram[old]
        pivot = gram[new] - left.T @ left
        # The share of 1e-12 lets a gradient that depends on the others pass as an almost free one.
        pivot.flat[:: len(pivot) + 1] += self._lam + 1e-12 * gram[new].diagonal()
        corner = np.linalg.inv(np.linalg.cholesky(pivot)).T
        self._inverse[new, old] = 0
        self._inverse[new, new] = corner
        self._inverse[old, new] = -(self._inverse[old, old] @ (left @ corner))


def pursue(
    factors: Factors,
    target: np.ndarray,
    budget: int,
    lam: float,
    nonnegative: bool = True,
    memory_gb: float = 2.0,
) -> Pursuit:
    """Match `target`, (C, d + 1), with at most `budget` examples; ties go to the lowest position.

    It ends early when the residual has an inner product above rounding with no gradient: then no further
    example lowers the objective. With `nonnegative` all weights are above zero.
    """
    support, weight = Support(budget, factors, target, lam, memory_gb), np.empty(0)
    norms, scale = factors.norms(), float(np.linalg.norm(target))
    rounding = 8 * np.finfo(factors.residual.dtype).eps
    while support.size < budget:
        gain = support.gain(weight)
        best = int(np.argmax(gain))
        size = scale if support.exact else scale + float(np.abs(weight) @ norms[support.positions])
        ended = (gain[best] if nonnegative else abs(gain[best])) <= rounding * size * norms[best]
        if ended and support.exact:
            break
        if ended:  # sums over the kept inner products have lost their digits; go on from the residual
            support.exact = True
            continue
        support.add(best)
        weight = _descend(support, np.append(weight, 0.0)) if nonnegative else support.solve()
        if best not in support.positions:
            break
    return Pursuit(support.positions.copy(), weight)


def _descend(support: Support, weight: np.ndarray) -> np.ndarray:
    """Move from feasible weights to the minimum over the support; drop what reaches zero on the way."""
    while True:
        goal = support.solve()
        falling = np.flatnonzero(goal <= 0)
        if not len(falling):
            return goal
        steps = weight[falling] / np.maximum(weight[falling] - goal[falling], np.finfo(float).tiny)
        weight = weight + steps.min() * (goal - weight)
        kept = np.ones(len(weight), bool)
        kept[falling[steps == steps.min()]] = False
        support.keep(kept)
        weight = weight[kept]
