"""Distances from inner products, in one pass over memory."""

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
