"""From one score per example to an order: over the whole pool, or with every class's share.

Ties go to the lowest position. That is by chance where a score is a real number. A score that counts
(epochs, flips) ties in the thousands, and the positions of a pool that was read class by class would
then choose the classes; such methods pass `ties`, and a draw decides.
"""

from __future__ import annotations

import numpy as np

from winnow.select.engine.quotas import groups_of, interleave
from winnow.select.engine.subset import Score


def ranked(
    score: Score, classes: np.ndarray | None = None, ties: np.random.Generator | None = None
) -> np.ndarray:
    """Return all n positions, the ones to keep first; with classes (n,), every prefix is proportional.

    ties: equal scores come in an order drawn from it; without it, in the order of the pool.
    """
    if ties is None:
        order = score.order()
    else:
        shuffled = ties.permutation(len(score.values))
        order = shuffled[Score(score.values[shuffled], score.keep).order()]
    if classes is None:
        return order
    return interleave([order[group] for group in groups_of(classes[order])])
