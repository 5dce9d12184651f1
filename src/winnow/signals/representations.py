"""What a proxy makes of each image: its encoder's output as it is, neither augmented nor scaled.

Of a self-supervised teacher these are what students regress on in knowledge distillation.
"""

from __future__ import annotations

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.signals.engine.view import SignalView


def needs(_: Params) -> Signals:
    return {"model": {}}


@plugin(needs=needs, source="arXiv 2410.02116, section 4: teacher's targets")
def compute(params: Params, view: SignalView) -> np.ndarray:
    """Return (n, d) float32."""
    from winnow.signals.engine.encode import representations

    return representations(view.proxies[0])
