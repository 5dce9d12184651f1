"""Norms of the exact last-layer gradient of every example, by several proxies (GraNd before its mean).

The gradient is an outer product, so its norm is |delta| sqrt(1 + |h|^2), bias included: no batch, no mean.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.signals.engine.view import SignalView


class GradientNormParams(Params):
    proxies: int = Field(default=10, ge=1)


def needs(params: GradientNormParams) -> Signals:
    return {"model": {"learned": "labels", "count": params.proxies}}


@plugin(params=GradientNormParams, needs=needs, source="Paul et al. 2021, arXiv 2107.07075")
def compute(params: GradientNormParams, view: SignalView) -> np.ndarray:
    """Return (n, proxies) float32."""
    from winnow.signals.engine.classifier import encoded, residuals

    columns = []
    for proxy in view.proxies:
        hidden, logits = encoded(proxy)
        delta = residuals(logits, view.data.pool_labels())
        columns.append(np.linalg.norm(delta, axis=1) * np.sqrt(1 + np.square(hidden).sum(axis=1)))
    return np.stack(columns, axis=1)
