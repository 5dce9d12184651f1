"""High loss: the examples on which early experts err most, over the whole set and not per class.

Where MKDT starts from, and a baseline of it. O(n log n).
"""

from __future__ import annotations

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.ranking import ranked
from winnow.select.engine.subset import Score, Subset, View, finite, subset


def needs(_: Params) -> Signals:
    return {"expert_losses": {}}


def nested(_: Params) -> bool:
    return True


@plugin(needs=needs, nested=nested, source="arXiv 2410.02116, section 4")
def select(view: View, budget: int | None, rng: np.random.Generator, params: Params) -> Subset:
    """Return the examples by their loss, largest first.

    signals: `expert_losses` (n,).
    """
    score = Score(finite(view, "expert_losses", "high_loss"), "high")
    return subset(ranked(score, None)[:budget], score)
