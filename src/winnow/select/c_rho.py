"""C-RHO: RHO-loss for image-caption pairs, the baseline of the ClipCov paper.

Keep the pairs that a model of held-out data matches well and a model at an early stage of training does not
yet: learnable, worth learning, not learned (signal `reducible_similarity`). The paper does not say which
models it takes; ours see the validation split, and a fifth of the proxy's epochs.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.subset import Score, Subset, View, finite, subset


class CRhoParams(Params):
    early: float = Field(default=0.2, gt=0, le=1)


def needs(params: CRhoParams) -> Signals:
    return {"reducible_similarity": {"early": params.early}}


def nested(_: CRhoParams) -> bool:
    return True


@plugin(
    params=CRhoParams,
    needs=needs,
    nested=nested,
    source="Mindermann et al. 2022, arXiv 2206.07137; ClipCov, arXiv 2403.12267",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: CRhoParams) -> Subset:
    """Return the pairs by reducible similarity, largest first; O(n log n)."""
    score = Score(finite(view, "reducible_similarity", "c_rho"), "high")
    return subset(score.order()[:budget], score)
