"""Last-layer gradients in factors: g_i = delta_i (x) [1, h_i], a (C, d + 1) matrix that is never formed.

delta_i = softmax(logits_i) - onehot(label_i) is the gradient of example i's own cross-entropy (no mean
over a batch, so no batch size enters), h_i its penultimate features. Sums of gradients are (C, d + 1)
matrices; inner products with one cost O(n C d), pairs of examples O(C + d) each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from winnow.select.engine.similarity import scaled_rows, squares
from winnow.select.engine.subset import View, finite, labelled


@dataclass(frozen=True)
class Factors:
    """residual: (n, C); features: (n, d). Results have the precision of these arrays."""

    residual: np.ndarray
    features: np.ndarray

    @classmethod
    def of(cls, view: View, method: str) -> Factors:
        """Return a pool's factors, float32, from its signals `logits` and `features` and its labels."""
        labels = labelled(view, method)
        residual = residuals(finite(view, "logits", method), labels)
        features = finite(view, "features", method).astype(np.float32, copy=False)
        return cls(residual.astype(np.float32), features)

    @property
    def n(self) -> int:
        return len(self.residual)

    def take(self, positions: np.ndarray) -> Factors:
        """Return the factors of some examples, in the order given."""
        return Factors(self.residual[positions], self.features[positions])

    def scaled(self, scale: np.ndarray) -> Factors:
        """Return the factors of scale_i g_i; scale: (n,)."""
        return Factors(scaled_rows(self.residual, scale), self.features)

    def as_released(self, groups: Sequence[np.ndarray], batch: int) -> Factors:
        """Return the gradients of mean losses over batches cut within each group (`mean_loss_scale`)."""
        scale = np.ones(self.n)
        for group in groups:
            scale[group] = mean_loss_scale(len(group), batch)
        return self.scaled(scale)

    def gram(self, a: np.ndarray | slice, b: np.ndarray | slice) -> np.ndarray:
        """Return <g_i, g_j> = (delta_i . delta_j)(1 + h_i . h_j) for i in a, j in b: (len(a), len(b))."""
        product: np.ndarray = self.features[a] @ self.features[b].T
        product += 1
        product *= self.residual[a] @ self.residual[b].T
        return product

    def norms(self) -> np.ndarray:
        """Return ||g_i|| = ||delta_i|| sqrt(1 + ||h_i||^2), (n,) float64."""
        norms: np.ndarray = np.sqrt(squares(self.residual) * (1 + squares(self.features)))
        return norms

    def sum(self, weight: np.ndarray | None = None) -> np.ndarray:
        """Return the sum of weight_i g_i (weights 1 if none are given), (C, d + 1), bias first."""
        residual = self.residual if weight is None else self.scaled(weight).residual
        return np.concatenate([residual.sum(axis=0)[:, None], residual.T @ self.features], axis=1)

    def sums(self) -> np.ndarray:
        """Return the inner product of each gradient with the sum of all, (n,)."""
        return self.inner(self.sum())

    def mean(self) -> np.ndarray:
        """Return the mean gradient, (C, d + 1)."""
        mean: np.ndarray = self.sum() / max(self.n, 1)
        return mean

    def inner(self, matrix: np.ndarray) -> np.ndarray:
        """Return <g_i, matrix> for every example, (n,); matrix: (C, d + 1), bias first."""
        logits = self.features @ matrix[:, 1:].T + matrix[:, 0]
        product: np.ndarray = np.einsum("nc,nc->n", self.residual, logits)
        return product


def residuals(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return softmax - onehot, (n, C) float64.

    The entry of the label is minus the sum of the others: 1 - p would lose the digits of a sure example.
    """
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    probability = np.exp(shifted)
    probability /= probability.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    probability[rows, labels] = 0
    probability[rows, labels] = -probability.sum(axis=1)
    return probability


def mean_loss_scale(n: int, batch: int = 128) -> np.ndarray:
    """Return what released code multiplies g_i by: 1 / size of its batch, (n,) float64.

    The gradient is taken of a batch's mean loss. Of 5,000 examples of a class the last 8 are a batch of
    their own and count 16 times as much as the rest.
    """
    sizes = np.full(n, batch)
    sizes[n - n % batch :] = n % batch
    return 1.0 / sizes
