"""What a signal is given: the data, the trained model if it needs one, and other signals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from winnow.data.dataset import Dataset


@dataclass(frozen=True)
class SignalView:
    """One repetition's inputs. `model` is a trained module in evaluation mode, or None.

    signals: arrays by name, one row per example of the pool.
    """

    data: Dataset
    root_seed: int
    seed: int
    model: Any = None
    device: Any = None
    signals: dict[str, np.ndarray] = field(default_factory=dict)
