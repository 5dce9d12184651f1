"""ZCA whitening: the linear map after which pixels have no correlation and the image still looks like one.

Source: Krizhevsky 2009, appendix A; with 0.1 added to the variances, as the released codes of MTT, TESLA, FTD
and DATM do (kornia's `ZCAWhitening(eps=0.1)`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from winnow.data.batch import BATCH, chunks

ADDED = 0.1
"""What is added to each variance before it is divided by."""

Floats = npt.NDArray[np.float32]


def zca(rows: Callable[[slice], npt.NDArray[np.floating]], n: int) -> tuple[Floats, Floats]:
    """Return (matrix (d, d), mean (d,)) float32, for which (x - mean) @ matrix is whitened.

    rows: returns some of the n examples, flattened (k, d). With the covariance U S U^T (divisor n - 1) the
    matrix is U (S + 0.1)^-1/2 U^T. Time O(n d^2 + d^3), memory a few d^2 and one batch.
    """
    parts = list(chunks(n, BATCH))
    mean = sum(rows(part).sum(axis=0, dtype=np.float64) for part in parts) / n
    covariance = np.zeros((len(mean), len(mean)))
    for part in parts:
        centred = (rows(part) - mean).astype(np.float32)
        covariance += centred.T @ centred
    values, vectors = np.linalg.eigh(covariance / max(1, n - 1))
    matrix = (vectors / np.sqrt(np.maximum(values, 0) + ADDED)) @ vectors.T
    return matrix.astype(np.float32), mean.astype(np.float32)


def whitening_of(images: npt.NDArray[np.uint8], mean: list[float], std: list[float]) -> Floats:
    """Return (d + 1, d), the matrix and below it the mean, of images (n, h, w, c) normalised by channel.

    Their numbers are in the order that networks see them in: (c, h, w).
    """
    middle, width = np.array(mean, np.float32), np.array(std, np.float32)

    def rows(part: slice) -> Floats:
        seen = (images[part].astype(np.float32) / 255 - middle) / width
        return seen.transpose(0, 3, 1, 2).reshape(len(seen), -1).astype(np.float32, copy=False)

    return np.vstack(zca(rows, len(images)))
