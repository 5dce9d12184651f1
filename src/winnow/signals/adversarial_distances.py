"""How far every example is from the decision boundary: the norm of DeepFool's total perturbation.

Each step moves an image to the nearest boundary of the linearised classifier; it ends when the class
changes, or after `iterations` steps. All images of a batch move together and stop one by one.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.signals.engine.view import SignalView


class DeepFoolParams(Params):
    """`classes`: boundaries to the classes with the largest logits are looked at (the original takes 10)."""

    iterations: int = Field(default=50, ge=1)
    classes: int = Field(default=10, ge=2)
    overshoot: float = Field(default=0.02, ge=0)


def needs(_: DeepFoolParams) -> Signals:
    return {"model": {"learned": "labels"}}


@plugin(
    params=DeepFoolParams, needs=needs, source="Moosavi-Dezfooli et al. 2016, arXiv 1511.04599, algorithm 2"
)
def compute(params: DeepFoolParams, view: SignalView) -> np.ndarray:
    """Return (n,) float32 distances in normalised pixels."""
    from winnow.signals.engine.deepfool import distances

    return distances(view.proxies[0], params.iterations, params.classes, params.overshoot)
