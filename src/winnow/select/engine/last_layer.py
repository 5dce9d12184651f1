"""The cross-entropy of a validation set while the last layer moves and the features stay."""

from __future__ import annotations

import numpy as np

from winnow.select.engine.gradients import Factors, residuals


class LastLayer:
    """features: (n, d); logits: (n, C) at the start; labels: (n,). Moves by b gradients: O(n d min(b, C))."""

    def __init__(self, features: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> None:
        self._features, self._labels = features, labels
        self._logits = np.array(logits, dtype=features.dtype)

    def gradient(self) -> np.ndarray:
        """Return the mean gradient of the loss at the present layer, (C, d + 1), bias first."""
        residual = residuals(self._logits, self._labels).astype(self._features.dtype)
        return Factors(residual, self._features).mean()

    def move(self, gradients: Factors, eta: float) -> None:
        """Subtract eta times the sum of some gradients from the layer."""
        if gradients.n < self._logits.shape[1]:
            kernel = self._features @ gradients.features.T + 1
            self._logits -= kernel @ (eta * gradients.residual).astype(self._logits.dtype)
        else:
            step = (eta * gradients.sum()).astype(self._logits.dtype)
            self._logits -= self._features @ step[:, 1:].T + step[:, 0]

    def loss(self) -> float:
        """Return the mean cross-entropy in nats."""
        logits = self._logits.astype(np.float64)
        largest = logits.max(axis=1)
        total = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
        return float((total - logits[np.arange(len(logits)), self._labels]).mean())
