"""Embeddings of the pool by a trained proxy: the mean of unit-norm outputs over augmented views.

For independent views the expected cosine of two examples is the inner product of their mean
unit-norm embeddings, so that one (n, d) array serves every pair. With `augment_views=0` the view is
the image itself, as in the SAS release, and rows have norm 1. Of an image-text model these are the image
tower's outputs.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.signals.engine.view import SignalView
from winnow.train.engine.options import AugmentParams, TrainedOn


class EmbeddingParams(Params):
    augment_views: int = Field(default=0, ge=0)
    layer: Literal["projection", "backbone"] = "projection"
    augment: AugmentParams = AugmentParams()
    trained_on: TrainedOn = "pool"


def needs(params: EmbeddingParams) -> Signals:
    return {"model": {"variants": ({"split": params.trained_on},)}}


@plugin(params=EmbeddingParams, needs=needs, source="Joshi and Mirzasoleiman, ICML 2023, arXiv 2302.09195")
def compute(params: EmbeddingParams, view: SignalView) -> np.ndarray:
    """Return (n, d) float32 embeddings; inner products are (expected) cosine similarities."""
    from winnow.signals.engine.encode import encode

    return encode(params, view)
