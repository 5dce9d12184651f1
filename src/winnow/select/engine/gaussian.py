"""The Gaussian kernel k(x, y) = exp(-||x - y||^2 / (2 l^2)) over one pool, a tile or a column at a time."""

from __future__ import annotations

import numpy as np

from winnow.select.engine.centre import centred
from winnow.select.engine.similarity import squares

TILE = 1024
SAMPLE = 1000
FAR = 30.0  # float32 then has the exponent to about 1e-4


class Gaussian:
    """Kernel of (n, d) rows with length scale l > 0. Memory: two float32 copies of the rows and a tile.

    The exponent x . y - ||x||^2 / 2 - ||y||^2 / 2 is a single inner product of rows with two more entries.
    It cancels where a row is far from the mean in units of l: from `FAR` on, copies and products are float64.
    """

    def __init__(self, rows: np.ndarray, length_scale: float) -> None:
        self.n = len(rows)
        scaled = centred(rows) / np.float32(length_scale)
        if squares(scaled).max(initial=0) > FAR**2:
            scaled = centred(rows, np.float64) / length_scale
        half = -0.5 * np.einsum("nd,nd->n", scaled, scaled)[:, None]
        ones = np.ones_like(half)
        self.left = np.concatenate([scaled, half, ones], axis=1)
        self.right = np.concatenate([scaled, ones, half], axis=1)

    def mean(self) -> np.ndarray:
        """Return every row's mean of k to all n rows, itself included: (n,) float64."""
        total = np.zeros(self.n)
        for i in range(0, self.n, TILE):
            for j in range(i, self.n, TILE):
                tile = _exp(self.left[i : i + TILE] @ self.right[j : j + TILE].T)
                total[i : i + TILE] += tile.sum(axis=1)
                if j > i:
                    total[j : j + TILE] += tile.sum(axis=0)
        return total / max(self.n, 1)

    def column(self, j: int) -> np.ndarray:
        """Return k of every row to row j, (n,).

        On one core: a product this small is over before the threads of BLAS have met.
        """
        return _exp(np.einsum("nd,d->n", self.left, self.right[j]))


def _exp(exponent: np.ndarray) -> np.ndarray:
    """Return e to the exponent, in place; rounding must not lift k above 1."""
    np.minimum(exponent, 0, out=exponent)
    np.exp(exponent, out=exponent)
    return exponent


def median_heuristic(rows: np.ndarray) -> float:
    """Return sqrt(median ||x - y||^2 / 2) over distinct pairs that differ; 1 if all rows are equal.

    Above 1,000 rows: of 1,000 evenly spaced in the order of their distance from the mean, so that neither
    chance nor the order of the pool enters (Garreau et al. 2017 for the rule itself).
    """
    from scipy.spatial.distance import pdist

    if len(rows) > SAMPLE:
        from_mean = np.linalg.norm(rows - rows.mean(axis=0, dtype=np.float64), axis=1)
        rows = rows[np.argsort(from_mean, kind="stable")[np.linspace(0, len(rows) - 1, SAMPLE).astype(int)]]
    squares = pdist(rows.astype(np.float64), "sqeuclidean")
    squares = squares[squares > 0]
    return float(np.sqrt(np.median(squares) / 2)) if len(squares) else 1.0
