"""CLIP score: keep the pairs whose image and caption are most similar to an image-text proxy.

The rule of LAION and DataComp, as a share of the pool: thresholds on the cosine depend on the model. With
`trained_on: clean` the proxy is a filter network that was trained on a smaller set of clean pairs (DFN, Fang
et al. 2023): the dataset that the grid names as `clean_pairs`, or the validation split. `keep: low` is a
negative control.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.pairs import pair_scores
from winnow.select.engine.subset import Score, Subset, View, subset


class ClipScoreParams(Params):
    keep: Literal["high", "low"] = "high"
    trained_on: Literal["pool", "clean"] = "pool"


def needs(params: ClipScoreParams) -> Signals:
    trained_on = {"trained_on": params.trained_on}
    return {"embeddings": trained_on, "text_embeddings": trained_on}


def nested(_: ClipScoreParams) -> bool:
    return True


@plugin(
    params=ClipScoreParams,
    variants={"plain": {}, "filter_network": {"trained_on": "clean"}, "lowest": {"keep": "low"}},
    needs=needs,
    nested=nested,
    source="Gadre et al. 2023, arXiv 2304.14108; filter_network: Fang et al. 2023, arXiv 2309.17425",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: ClipScoreParams) -> Subset:
    """Return the pairs by score; O(n d + n log n). signals: unit `embeddings`, `text_embeddings` (n, d)."""
    score = Score(pair_scores(view, "clip_score"), params.keep)
    return subset(score.order()[:budget], score)
