"""Distances from inner products or from differences, in one pass over memory."""

from __future__ import annotations

import numpy as np

from winnow.select.engine.compiled import compiled, parts, share


def to_distances(products: np.ndarray, rows: np.ndarray, columns: np.ndarray, rounding: float) -> None:
    """Replace inner products by Euclidean distances, in place.

    products: (a, b). rows, columns: squared norms, (a,) and (b,). A squared distance below `rounding`
    times the sum of the two squares counts as zero.
    """
    share(products.size)
    _to_distances(products, rows.astype(products.dtype), columns.astype(products.dtype), rounding)


@compiled
def _to_distances(products: np.ndarray, rows: np.ndarray, columns: np.ndarray, rounding: float) -> None:
    limit = products.dtype.type(rounding)
    for i in parts(len(rows)):
        for j in range(len(columns)):
            squares = rows[i] + columns[j]
            distance = squares - 2 * products[i, j]
            products[i, j] = np.sqrt(distance) if distance > limit * squares else 0


def squared_distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the squared distances of each of (n, d) rows to `others`, (n, k) positions: (n, k) float64.

    They are sums of squared differences in float64, which lose no digits to cancellation.
    """
    out = np.empty(others.shape)
    share(out.size * rows.shape[1])
    _squared_distances(np.ascontiguousarray(rows), others, out)
    return out


@compiled
def _squared_distances(rows: np.ndarray, others: np.ndarray, out: np.ndarray) -> None:
    for i in parts(len(others)):
        for k in range(others.shape[1]):
            total = 0.0
            for c in range(rows.shape[1]):
                difference = np.float64(rows[i, c]) - np.float64(rows[others[i, k], c])
                total += difference * difference
            out[i, k] = total
