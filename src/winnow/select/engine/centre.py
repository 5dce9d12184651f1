"""Centred rows: distances stay as they are, and float32 keeps more of their digits."""

from __future__ import annotations

import numpy as np


def centred(rows: np.ndarray, dtype: type[np.floating] = np.float32) -> np.ndarray:
    """Return rows minus their mean, (n, d) of `dtype`; subtracted in float64, a buffer at a time."""
    out = np.empty(rows.shape, dtype)
    np.subtract(rows, rows.mean(axis=0, dtype=np.float64), out=out, casting="same_kind")
    return out
