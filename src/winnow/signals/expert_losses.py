"""The mean loss of early experts on every example: what is hard to learn, after one epoch of training.

With targets the loss is the squared error, mean over the target's numbers, else cross-entropy.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.signals.engine.view import SignalView


class ExpertLossParams(Params):
    """epoch: after which the experts are asked."""

    epoch: int = Field(default=1, ge=0)


def needs(_: Params) -> Signals:
    return {"experts": {}}


@plugin(params=ExpertLossParams, needs=needs, source="arXiv 2410.02116, section 4: high-loss initialisation")
def compute(params: ExpertLossParams, view: SignalView) -> np.ndarray:
    """Return (n,) float32."""
    from winnow.signals.engine.experts import mean_losses

    return mean_losses(view, params.epoch)
