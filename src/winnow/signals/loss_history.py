"""Cross-entropy of every example in every epoch of the proxy's training.

Recorded from the forward passes of the training itself, so each value is of the view and the weights of
its own step; nothing is computed twice.
"""

from __future__ import annotations

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.signals.engine.view import SignalView


def needs(_: Params) -> Signals:
    return {"model": {"recorded": True}}


@plugin(needs=needs, source="Toneva et al. 2019, arXiv 1812.05159; Pleiss et al. 2020, arXiv 2001.10528")
def compute(params: Params, view: SignalView) -> np.ndarray:
    """Return (n, epochs) float32, in nats."""
    return view.proxies[0].array("dynamics/loss")
