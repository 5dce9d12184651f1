"""Log-determinant: the chosen examples span as much of the kernel as they can.

    F(S) = log det(K_S + ridge I),   gain(v | S) = log(ridge + K_vv - K_vS (K_SS + ridge I)^-1 K_Sv)

Paper (Iyer et al. 2021; DeepCore): the ridge is zero. A kernel of d features has rank d + 1 at most, and
beyond that many picks all gains would be rounding; a small ridge leaves earlier picks as they are.

Released code (DeepCore 74ec709): the gain is K_vS K_SS^-1 K_Sv, without K_vv minus it, so the ranking is
reversed: each pick is the example that the chosen ones explain best. K is the (1 + cos) / 2 of last-layer
gradients, and has no ridge; ours stays. With K_vv = 1 the first pick is open in both rules.

O(n d) and O(n |S|) per pick, 8 n k bytes for k picks: a full order costs O(n^3), so no order is shared.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from winnow.registry import plugin
from winnow.select.engine.choice import SimilarityParams, choose_by_similarity, similarity_needs
from winnow.select.engine.greedy import naive
from winnow.select.engine.set_functions import LogDeterminant, Redundancy
from winnow.select.engine.similarity import Similarity
from winnow.select.engine.subset import Subset, View


class LogDetParams(SimilarityParams):
    similarity: Literal["cosine", "gradient"] = "cosine"
    gain: Literal["log_det", "redundancy"] = "log_det"
    ridge: float = Field(default=1e-3, gt=0)


RELEASED = {"gain": "redundancy", "similarity": "gradient"}


@plugin(
    params=LogDetParams,
    variants={"paper": {}, "released": RELEASED, "stratified": {"quotas": "labels"}},
    needs=similarity_needs,
    source="Iyer, Khargoankar, Bilmes and Asnani, ALT 2021, arXiv 2006.15412",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: LogDetParams) -> Subset:
    """Return the examples in the order picked; the fact `objective` is the sum of the gains per group.

    signals: `features` (n, d); for similarity `gradient` also `logits` (n, C), and labels.
    """
    rule = LogDeterminant if params.gain == "log_det" else Redundancy

    def choose(similarity: Similarity, count: int) -> tuple[np.ndarray, dict[str, Any]]:
        order, gains = naive(rule(similarity, params.ridge, view.memory_gb), count)
        return order, {"objective": float(gains.sum())}

    return choose_by_similarity(view, budget, params, "log_det", choose)
