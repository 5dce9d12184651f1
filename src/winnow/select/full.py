"""All examples, in the pool's order: the reference of every comparison."""

from __future__ import annotations

import numpy as np

from winnow.registry import Params, plugin
from winnow.select.engine.subset import Subset, View, subset


def _nested(_: Params) -> bool:
    return True


@plugin(nested=_nested)
def select(view: View, budget: int | None, rng: np.random.Generator, params: Params) -> Subset:
    """Return the first `budget` examples of the pool, all of them by default."""
    return subset(np.arange(view.n if budget is None else budget))
