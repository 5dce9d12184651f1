"""Logits of examples that the model was not trained on: cross-validation over `folds` proxies.

A model agrees with a wrong label that it has seen; confident learning needs predictions that have not.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.signals.engine.view import SignalView


class HeldoutParams(Params):
    folds: int = Field(default=3, ge=2)


def needs(params: HeldoutParams) -> Signals:
    return {"model": {"learned": "labels", "folds": params.folds}}


@plugin(params=HeldoutParams, needs=needs, source="Northcutt et al. 2021, arXiv 1911.00068, section 3")
def compute(params: HeldoutParams, view: SignalView) -> np.ndarray:
    """Return (n, classes) float32; row i comes from the proxy of whose data example i was left out."""
    from winnow.signals.engine.classifier import encoded
    from winnow.train.engine.folds import folds_of

    parts = folds_of(view.data.pool_labels(), params.folds, view.root_seed, view.seed)
    found = np.stack([encoded(proxy)[1] for proxy in view.proxies])
    rows: np.ndarray = found[parts, np.arange(len(parts))]
    return rows
