"""What a protocol is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EvaluationView:
    """Frozen features of one trained model: (n, d) float32 with (n,) int64 labels.

    random: generator of this repetition's validation split, the same for every arm.
    """

    train_features: np.ndarray
    train_labels: np.ndarray
    test_features: np.ndarray
    test_labels: np.ndarray
    classes: int
    random: np.random.Generator
