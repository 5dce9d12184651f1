"""The loop of herding: one pass over the rows per pick.

One core reads rows about as fast as memory gives them; more cores would mostly wait for each other.
"""

from __future__ import annotations

import numpy as np

from winnow.select.engine.compiled import njit


@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
def herd(centred: np.ndarray, count: int, farthest: bool) -> np.ndarray:
    """Return the positions of `count` picks that minimise (maximise) ||sum of the picks + x||, in order.

    centred: (n, d) float32 with mean 0. Ties go to the lowest position: each row's sum is formed alike.
    """
    n, d = centred.shape
    sign = np.float32(-1 if farthest else 1)
    half = np.empty(n, np.float32)
    for i in range(n):
        square = np.float32(0)
        for c in range(d):
            square += centred[i, c] * centred[i, c]
        half[i] = square / 2
    order = np.empty(count, np.int64)
    taken = np.zeros(n, np.bool_)
    total = np.zeros(d)
    value = np.empty(n, np.float32)
    for step in range(count):
        direction = total.astype(np.float32)
        for i in range(n):
            if not taken[i]:
                product = half[i]
                for c in range(d):
                    product += centred[i, c] * direction[c]
                value[i] = sign * product
        best = np.argmin(value)
        order[step] = best
        taken[best], value[best] = True, np.inf
        total += centred[best]
    return order
