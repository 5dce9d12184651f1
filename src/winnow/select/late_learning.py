"""Late learning: the examples that the proxy learns for good early; what it learns late is suspicious.

The learning time (first-split learning in Maini et al., NeurIPS 2022) of an example is the first epoch from
which it is classified as labelled in every epoch to the end; an example that is wrong in the last epoch
counts as learned after it. Earliest first. With a clean label a late example is a hard one, so this
score removes both.

Epochs are small integers and many examples tie, so ties are drawn at random: by position they would go to
the first classes of a pool that is stored class by class. O(n E).
"""

from __future__ import annotations

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.grouped import Grouping
from winnow.select.engine.ranking import ranked
from winnow.select.engine.subset import Score, Subset, View, finite, labelled, subset


class LateLearningParams(Params):
    quotas: Grouping = "none"


def needs(_: LateLearningParams) -> Signals:
    return {"correct_history": {}}


def nested(_: LateLearningParams) -> bool:
    return True


@plugin(
    params=LateLearningParams,
    needs=needs,
    nested=nested,
    source="Maini et al., NeurIPS 2022, arXiv 2210.15031",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: LateLearningParams) -> Subset:
    """Return the examples by their learning time, earliest first, ties drawn at random.

    signals: `correct_history` (n, E), 1 where an example was classified as labelled.
    """
    history = finite(view, "correct_history", "late_learning")
    score = Score(learning_time(history), "low")
    classes = labelled(view, "late_learning") if params.quotas == "labels" else None
    return subset(ranked(score, classes, ties=rng)[:budget], score)


def learning_time(history: np.ndarray) -> np.ndarray:
    """Return the epoch (from 0) at which a row's final run of ones begins, E if it has none; (n,) int64."""
    right_to_the_end = np.cumprod(history[:, ::-1], axis=1, dtype=np.uint8)
    times: np.ndarray = history.shape[1] - right_to_the_end.sum(axis=1, dtype=np.int64)
    return times
