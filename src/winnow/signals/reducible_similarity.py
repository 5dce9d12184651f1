"""How much better a held-out model pairs an image with its caption than a model that has seen little of the
pool.

RHO-loss (Mindermann et al. 2022) keeps what the model in training has not learned yet and a model of
held-out data finds learnable. For pairs the loss is minus the CLIP score: the value is the score by a model
trained on the validation split minus the score by a proxy that was trained on the pool for a share of its
epochs. The validation split is a tenth of the pool or less: by the proxy's epochs its model would hardly be
trained, so its length is given in the proxy's steps.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.signals.engine.view import SignalView


class ReducibleParams(Params):
    """early: share of the proxy's epochs that the early model is trained for.

    heldout: share of the proxy's steps, over the whole pool, that the model of held-out pairs is trained for.
    """

    early: float = Field(default=0.2, gt=0, le=1)
    heldout: float = Field(default=1.0, gt=0, le=1)


def needs(params: ReducibleParams) -> Signals:
    heldout = {"split": "validation", "share": params.heldout, "length": "steps"}
    return {"model": {"learned": "captions", "variants": (heldout, {"share": params.early})}}


@plugin(
    params=ReducibleParams, needs=needs, source="Mindermann et al. 2022, arXiv 2206.07137; ClipCov, section 5"
)
def compute(params: ReducibleParams, view: SignalView) -> np.ndarray:
    """Return (n,) float32; large values are worth training on."""
    from winnow.signals.engine.encode import caption_features, image_features

    heldout, early = (
        np.einsum("nd,nd->n", image_features(proxy), caption_features(proxy)) for proxy in view.proxies
    )
    return np.asarray(heldout - early, np.float32)
