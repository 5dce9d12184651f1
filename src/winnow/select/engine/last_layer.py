"""The cross-entropy of a validation set while the last layer moves and the features stay."""

from __future__ import annotations

import numpy as np

from winnow.select.engine.gradients import Factors, residuals


class LastLayer:
    """features: (n, d); logits: (n, C) at the start; labels: (n,). Moves cost O(n C d)."""

    def __init__(self, features: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> None:
        self._features, self._labels = features, labels
        self._logits = np.array(logits, dtype=features.dtype)

    def gradient(self) -> np.ndarray:
        """Return the mean gradient of the loss at the present layer, (C, d + 1), bias first."""
        residual = residuals(self._logits, self._labels).astype(self._features.dtype)
        return Factors(residual, self._features).mean()

    def move(self, step: np.ndarray) -> None:
        """Subtract `step`, (C, d + 1), from the layer."""
        step = step.astype(self._logits.dtype)
        self._logits -= self._features @ step[:, 1:].T + step[:, 0]

    def loss(self) -> float:
        """Return the mean cross-entropy in nats."""
        logits = self._logits.astype(np.float64)
        largest = logits.max(axis=1)
        total = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
        return float((total - logits[np.arange(len(logits)), self._labels]).mean())
