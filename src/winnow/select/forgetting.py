"""Forgetting: the examples that the proxy unlearned most often while it trained.

Source: Toneva et al., ICLR 2019. A forgetting event is an epoch in which an example is classified correctly
followed by one in which it is not. Most events first; an example that was never classified correctly counts
as more than any other.

Released code (DeepCore 74ec709): such an example has no event, counts 0 and is the first to be dropped.

Counts are small integers and most examples tie, so ties are drawn at random: by position they would go
to the first classes of a pool that is stored class by class. O(n E).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.grouped import Grouping
from winnow.select.engine.ranking import ranked
from winnow.select.engine.subset import Score, Subset, View, finite, labelled, subset


class ForgettingParams(Params):
    """never_learned: how an example counts that was never right: above every other, or as its 0 events.

    keep: `high` for the examples hard to learn, `low` to remove them (wrong labels are among them).
    """

    never_learned: Literal["most", "zero"] = "most"
    keep: Literal["high", "low"] = "high"
    quotas: Grouping = "none"


def needs(_: ForgettingParams) -> Signals:
    return {"correct_history": {}}


def nested(_: ForgettingParams) -> bool:
    return True


@plugin(
    params=ForgettingParams,
    variants={"paper": {}, "released": {"never_learned": "zero"}},
    needs=needs,
    nested=nested,
    source="Toneva et al., ICLR 2019, arXiv 1812.05159",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: ForgettingParams) -> Subset:
    """Return the examples by their number of forgetting events, ties drawn at random.

    signals: `correct_history` (n, E), 1 where an example was classified as labelled.
    """
    history = finite(view, "correct_history", "forgetting")
    events = forgetting_events(history)
    never = ~history.any(axis=1)
    score = Score(events, params.keep)
    if params.never_learned == "most":
        score = Score(np.where(never, history.shape[1], events), params.keep)
    classes = labelled(view, "forgetting") if params.quotas == "labels" else None
    facts = {"never_learned": int(never.sum()), "never_forgotten": int(((events == 0) & ~never).sum())}
    return subset(ranked(score, classes, ties=rng)[:budget], score, facts=facts)


def forgetting_events(history: np.ndarray) -> np.ndarray:
    """Return the number of 1 -> 0 steps in each row, (n,) int64, at most E / 2."""
    events: np.ndarray = (history[:, :-1] > history[:, 1:]).sum(axis=1)
    return events
