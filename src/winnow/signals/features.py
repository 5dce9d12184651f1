"""Penultimate features of the pool by a supervised proxy, as they are: not scaled to norm 1."""

from __future__ import annotations

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.signals.engine.view import SignalView


def needs(_: Params) -> Signals:
    return {"model": {"learned": "labels"}}


@plugin(needs=needs, source="Guo et al. 2022, arXiv 2204.08499, section 3")
def compute(params: Params, view: SignalView) -> np.ndarray:
    """Return (n, d) float32."""
    from winnow.signals.engine.classifier import encoded

    return encoded(view.proxies[0])[0]
