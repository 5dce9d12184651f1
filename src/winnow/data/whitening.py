"""ZCA whitening: the linear map after which pixels have no correlation and the image still looks like one.

Source: Krizhevsky 2009, appendix A; with 0.1 added to the variances of pixels in [0, 1], as released codes do
(MTT, TESLA, FTD, DATM: kornia's `ZCAWhitening(eps=0.1)` of all training images, which are not normalised).
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


def whitening_of(images: npt.NDArray[np.uint8]) -> Floats:
    """Return (d + 1, d), the matrix and below it the mean, of images (n, h, w, c) as pixels in [0, 1].

    Whitening stands in the place of a normalisation by channel: after one, the 0.1 would be little beside the
    variances, and the images other ones than those of the released codes. The numbers of an image are in
    the order that networks see them in: (c, h, w).
    """

    def rows(part: slice) -> Floats:
        pixels = images[part].transpose(0, 3, 1, 2).astype(np.float32)
        return pixels.reshape(len(pixels), -1) / np.float32(255)

    return np.vstack(zca(rows, len(images)))
