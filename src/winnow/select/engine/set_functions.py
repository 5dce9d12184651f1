"""Set functions whose gains stay up to date, feature coverage, and weighted mixtures of any.

S is the set grown so far, v a candidate, s similarities, d distances. `submodular` says where lazy
evaluation is allowed; functions that keep all gains up to date need none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from winnow.errors import UserError
from winnow.select.engine.greedy import SetFunction
from winnow.select.engine.similarity import Distances, Similarity


class GraphCut(SetFunction):
    """lam sum of s_ij over all i, j in S, minus sum of s_ij over i, j in S.

    Gain: lam sum_i s_iv - s_vv - 2 sum_{j in S} s_jv. Submodular for s >= 0, monotone from lam = 2 on;
    lam = 1 is the cut between S and the rest, which SAS maximises. One column per pick.
    """

    def __init__(self, similarity: Similarity, lam: float = 1.0) -> None:
        self.similarity = similarity
        self.n = similarity.n
        self.gain = lam * similarity.row_sums() - similarity.diagonal()

    def gains(self, candidates: np.ndarray) -> np.ndarray:
        gains: np.ndarray = self.gain[candidates]
        return gains

    def add(self, v: int, bound: np.ndarray | None = None) -> None:
        self.gain -= 2.0 * self.similarity.column(v)


class LogDeterminant(SetFunction):
    """log det(K_S + ridge I) for a positive semidefinite kernel K.

    Gain: log(ridge + K_vv - K_vS (K_SS + ridge I)^-1 K_Sv), from a Cholesky factor that grows by one row
    per pick: O(n |S|) time for the pick, 8 n |S| bytes in all. The ridge keeps gains meaningful once S
    spans the kernel. residual: (n,), K_vv - K_vS (K_SS + ridge I)^-1 K_Sv.
    """

    def __init__(self, kernel: Similarity, ridge: float, memory_gb: float = 2.0) -> None:
        self.kernel = kernel
        self.n = kernel.n
        self.ridge = ridge
        self.limit = int(memory_gb * 2**30 / 8 / max(self.n, 1))
        self.residual = kernel.diagonal()
        self.factor = np.empty((min(16, self.n), self.n))
        self.size = 0

    def gains(self, candidates: np.ndarray) -> np.ndarray:
        gains: np.ndarray = np.log(self.ridge + np.maximum(self.residual[candidates], 0))
        return gains

    def add(self, v: int, bound: np.ndarray | None = None) -> None:
        if self.size == len(self.factor):
            self._grow()
        known = self.factor[: self.size]
        row = self.kernel.column(v) - known[:, v] @ known
        row /= np.sqrt(self.ridge + max(self.residual[v], 0.0))
        self.factor[self.size] = row
        self.residual -= row**2
        self.size += 1

    def _grow(self) -> None:
        if self.size >= self.limit:
            raise UserError(
                f"log-determinant: {self.size + 1} picks from {self.n} examples need more than the memory "
                "allowed; raise it, lower the budget, or select within classes"
            )
        wanted = min(2 * self.size, self.n, self.limit)
        self.factor = np.concatenate([self.factor, np.empty((wanted - self.size, self.n))])


class Redundancy(LogDeterminant):
    """What the released LogDet ranks by: K_vS K_SS^-1 K_Sv, the part of v that S already explains.

    It is the log-determinant's gain reversed, and no set function has it as its gain.
    """

    submodular = False

    def __init__(self, kernel: Similarity, ridge: float, memory_gb: float = 2.0) -> None:
        super().__init__(kernel, ridge, memory_gb)
        self.whole = self.residual.copy()

    def gains(self, candidates: np.ndarray) -> np.ndarray:
        gains: np.ndarray = self.whole[candidates] - self.residual[candidates]
        return gains


class DisparityMin(SetFunction):
    """The smallest distance within S (0 for fewer than two). Not submodular; greedy is farthest-first."""

    submodular = False

    def __init__(self, distances: Distances) -> None:
        self.distances = distances
        self.n = distances.n
        self.nearest = np.full(self.n, np.inf, np.float32)
        self.value = 0.0
        self.size = 0

    def gains(self, candidates: np.ndarray) -> np.ndarray:
        if self.size == 0:
            return np.zeros(len(candidates))
        nearest: np.ndarray = self.nearest[candidates].astype(np.float64)
        return nearest if self.size == 1 else np.minimum(nearest, self.value) - self.value

    def add(self, v: int, bound: np.ndarray | None = None) -> None:
        self.value += float(self.gains(np.array([v]))[0])
        self.nearest = np.minimum(self.nearest, self.distances.column(v))
        self.size += 1


class DisparitySum(SetFunction):
    """The sum of the distances of all pairs within S. Supermodular: gains grow with S."""

    submodular = False

    def __init__(self, distances: Distances) -> None:
        self.distances = distances
        self.n = distances.n
        self.gain = np.zeros(self.n)

    def gains(self, candidates: np.ndarray) -> np.ndarray:
        gains: np.ndarray = self.gain[candidates]
        return gains

    def add(self, v: int, bound: np.ndarray | None = None) -> None:
        self.gain += self.distances.column(v)


Concave = Literal["sqrt", "log", "cap"]


class FeatureCoverage(SetFunction):
    """sum over features f of phi(c_f), c_f the sum of x_if over S, for (n, d) x of at least zero.

    phi: sqrt, log(1 + c), or c cut at `cap` times the feature's total over all examples. Monotone and
    submodular; a gain costs O(d).
    """

    def __init__(self, features: np.ndarray, concave: Concave = "sqrt", cap: float = 0.1) -> None:
        self.features = np.ascontiguousarray(features, dtype=np.float64)
        self.n = len(features)
        self.concave = concave
        self.ceiling = cap * self.features.sum(axis=0)
        self.covered = np.zeros(self.features.shape[1])

    def value(self) -> float:
        """Return F(S)."""
        return float(self._phi(self.covered).sum())

    def gains(self, candidates: np.ndarray) -> np.ndarray:
        now, gains = self._phi(self.covered), np.empty(len(candidates))
        for begin in range(0, len(candidates), 1024):
            part = slice(begin, begin + 1024)
            gains[part] = (self._phi(self.covered + self.features[candidates[part]]) - now).sum(axis=1)
        return gains

    def add(self, v: int, bound: np.ndarray | None = None) -> None:
        self.covered += self.features[v]

    def _phi(self, amount: np.ndarray) -> np.ndarray:
        if self.concave == "cap":
            capped: np.ndarray = np.minimum(amount, self.ceiling)
            return capped
        phi: np.ndarray = np.sqrt(amount) if self.concave == "sqrt" else np.log1p(amount)
        return phi


class Mixture(SetFunction):
    """A weighted sum of set functions over the same examples; submodular where its parts are."""

    def __init__(self, parts: Sequence[tuple[float, SetFunction]]) -> None:
        self.parts = parts
        self.n = parts[0][1].n
        self.submodular = all(part.submodular and weight >= 0 for weight, part in parts)

    def gains(self, candidates: np.ndarray) -> np.ndarray:
        gains: np.ndarray = np.sum([weight * part.gains(candidates) for weight, part in self.parts], axis=0)
        return gains

    def add(self, v: int, bound: np.ndarray | None = None) -> None:
        for _, part in self.parts:
            part.add(v)
