"""RS2: a fresh random subset in every epoch, a schedule rather than a subset.

Source: Okanovic et al., ICLR 2024. Epoch e of the training sees subset e modulo `rounds`.

Without replacement, the rounds walk through a random permutation of the pool, and through a new one when it
is used up. A round that crosses from one permutation into the next takes the rest of the old one, then the
new one's first examples that it does not hold yet; those it skipped are shown later in the new pass. So a
round never repeats an example, and every pass shows each example exactly once. With replacement, every
round is a uniform random subset, independent of the others. O(rounds n) at most.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from winnow.registry import Params, plugin
from winnow.select.engine.subset import Subset, View, subset


class RS2Params(Params):
    """rounds: how many subsets are drawn; best the number of epochs, after which they come again."""

    rounds: int = Field(default=200, ge=1)
    replacement: bool = False


@plugin(
    params=RS2Params,
    variants={"without_replacement": {}, "with_replacement": {"replacement": True}},
    source="Okanovic et al., ICLR 2024, arXiv 2305.18424",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: RS2Params) -> Subset:
    """Return `rounds` random subsets of the budget, one after another."""
    size = view.n if budget is None else budget
    parts = _independent(view.n, size, rng) if params.replacement else walk(view.n, size, rng)
    index = np.concatenate([next(parts) for _ in range(params.rounds)])
    return subset(index, rounds=params.rounds)


def _independent(n: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    while True:
        yield rng.choice(n, size, replace=False)


def walk(n: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield subsets of `size` <= n distinct positions for ever; n / size of them make a pass over all."""
    ahead = rng.permutation(n)
    while True:
        rest = ahead[:size]
        ahead = ahead[size:]
        if len(rest) < size:
            following = rng.permutation(n)
            fresh = following[~np.isin(following, rest)][: size - len(rest)]
            ahead = following[~np.isin(following, fresh)]
            rest = np.concatenate([rest, fresh])
        yield rest
