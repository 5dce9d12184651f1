"""Logits of the pool by a supervised proxy that was trained on it.

With `features` they are the factors of every last-layer gradient: (softmax - onehot) times (1, features).
"""

from __future__ import annotations

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.signals.engine.view import SignalView


def needs(_: Params) -> Signals:
    return {"model": {"learned": "labels"}}


@plugin(needs=needs, source="Guo et al. 2022, arXiv 2204.08499, section 3")
def compute(params: Params, view: SignalView) -> np.ndarray:
    """Return (n, classes) float32."""
    from winnow.signals.engine.classifier import encoded

    return encoded(view.proxies[0])[1]
