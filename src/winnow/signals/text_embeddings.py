"""Embeddings of the pool's captions by an image-text proxy, in the space of `embeddings`."""

from __future__ import annotations

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.signals.engine.view import SignalView
from winnow.train.engine.options import TrainedOn


class TextEmbeddingParams(Params):
    trained_on: TrainedOn = "pool"


def needs(params: TextEmbeddingParams) -> Signals:
    return {"model": {"learned": "captions", "variants": ({"split": params.trained_on},)}}


@plugin(params=TextEmbeddingParams, needs=needs, source="Radford et al. 2021, arXiv 2103.00020")
def compute(params: TextEmbeddingParams, view: SignalView) -> np.ndarray:
    """Return (n, d) float32 of norm 1; the inner product with an image's embedding is the CLIP score."""
    from winnow.signals.engine.encode import caption_features

    return caption_features(view.proxies[0])
