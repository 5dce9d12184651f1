"""Norms of softmax - onehot of every example, by several independent proxies (EL2N before its mean)."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.signals.engine.view import SignalView


class ResidualNormParams(Params):
    proxies: int = Field(default=10, ge=1)


def needs(params: ResidualNormParams) -> Signals:
    return {"model": {"learned": "labels", "count": params.proxies}}


@plugin(params=ResidualNormParams, needs=needs, source="Paul et al. 2021, arXiv 2107.07075")
def compute(params: ResidualNormParams, view: SignalView) -> np.ndarray:
    """Return (n, proxies) float32."""
    from winnow.signals.engine.classifier import encoded, residuals

    columns = []
    for proxy in view.proxies:
        logits = encoded(proxy)[1]
        delta = residuals(logits, view.data.pool_labels())
        columns.append(np.linalg.norm(delta, axis=1))
    return np.stack(columns, axis=1)
