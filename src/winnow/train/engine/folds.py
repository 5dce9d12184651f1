"""Parts of the data for cross-validation: trained models never see the part that they are asked about."""

from __future__ import annotations

import numpy as np

from winnow.seeds import generator


def folds_of(labels: np.ndarray, folds: int, root_seed: int, seed: int) -> np.ndarray:
    """Return the part, 0 to folds - 1, of every example, (n,) int64; every class is dealt out evenly.

    Depends on (root seed, repetition) alone, so that training and signals agree.
    """
    order = generator(root_seed, "data", seed, "folds", folds).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    parts = np.empty(len(labels), np.int64)
    parts[order] = np.arange(len(labels)) % folds
    return parts
