"""Multinomial logistic regression by L-BFGS (scipy) with the analytic gradient."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp


def fit_logistic(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    penalty: float,
    iterations: int,
) -> np.ndarray:
    """Minimise mean cross-entropy + penalty / 2 * |W|^2 (the bias is free).

    features: (n, d). labels: (n,) integers below `classes`.
    Returns (d + 1, classes) float64, the bias in the last row.
    """
    n, d = features.shape
    inputs = np.concatenate([features, np.ones((n, 1), features.dtype)], axis=1)
    rows = np.arange(n)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(d + 1, classes)
        logits = inputs @ weights.astype(features.dtype)
        log_norm = logsumexp(logits, axis=1, keepdims=True)
        loss = float(np.mean(log_norm[:, 0] - logits[rows, labels], dtype=np.float64))
        residual = np.exp(logits - log_norm)
        residual[rows, labels] -= 1
        gradient = (inputs.T @ residual).astype(np.float64) / n
        gradient[:-1] += penalty * weights[:-1]
        return loss + penalty / 2 * float(np.square(weights[:-1]).sum()), gradient.ravel()

    done = minimize(
        objective,
        np.zeros((d + 1) * classes),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations, "maxcor": 20},
    )
    return np.asarray(done.x).reshape(d + 1, classes)


def predict(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (n,) int64 classes of largest score."""
    scores = features @ weights[:-1].astype(features.dtype) + weights[-1].astype(features.dtype)
    predicted: np.ndarray = scores.argmax(axis=1).astype(np.int64)
    return predicted
