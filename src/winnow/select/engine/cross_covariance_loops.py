"""The compiled loops of `cross_covariance`; imported inside functions only."""

from __future__ import annotations

import numpy as np

from winnow.select.engine.compiled import serial


@serial
def add_both(
    one: np.ndarray,
    other: np.ndarray,
    floor: np.float32,
    i: int,
    j: int,
    sums: np.ndarray,
    stored: np.ndarray,
) -> None:
    """Add block (i, j) of S + S' and its mirror image to the row sums and, unless it is empty, to `stored`.

    one: images of block i by texts of block j. other: images of block j by texts of block i.
    """
    keeps = stored.shape[0] > 0
    for a in range(one.shape[0]):
        row_sum = np.float64(0)
        for b in range(one.shape[1]):
            first, second = one[a, b], other[b, a]
            value = np.float32(0)
            if first > floor:
                value += first
            if second > floor:
                value += second
            row_sum += value
            if i != j:
                sums[j + b] += value
            if keeps:
                stored[i + a, j + b] = value
                stored[j + b, i + a] = value
        sums[i + a] += row_sum


@serial
def advance(
    left: np.ndarray,
    cross: float,
    sums: np.ndarray,
    labels: np.ndarray,
    period: int,
    over_all: bool,
    rows: np.ndarray,
    slot: np.ndarray,
    order: np.ndarray,
    values: np.ndarray,
    state: np.ndarray,
    spent: np.ndarray,
) -> None:
    """Pick until all are picked, or until a charge needs a row that is not at hand (slot -1).

    left: (n,) what each is still worth. sums, labels: (n,) what a pick takes from the whole class. state:
    picks so far, picks that have been charged. spent: the sums of the charged picks.
    """
    n, count, charged = left.shape[0], state[0], state[1]
    while count < order.shape[0]:
        if count > charged and (count + 1) % period == 0:
            for place in range(charged, count):
                if slot[order[place]] < 0:
                    state[0], state[1] = count, charged
                    return
            flat, new = 0.0, 0.0
            for place in range(charged, count):
                flat += labels[order[place]]
                new += sums[order[place]]
            spent[0] += new
            flat += spent[0] if over_all else new
            for place in range(charged, count):
                row = rows[slot[order[place]]]
                for i in range(n):
                    left[i] -= cross * row[i]
            for i in range(n):
                left[i] -= flat
            charged = count
        best = 0
        for i in range(1, n):
            if left[i] > left[best]:
                best = i
        order[count], values[count] = best, left[best]
        left[best] = -np.inf
        count += 1
    state[0], state[1] = count, charged
