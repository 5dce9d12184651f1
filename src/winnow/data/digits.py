"""The scikit-learn digits with their fixed split, and what can be measured on a grey picture of one.

1,797 handwritten digits of 8x8 pixels with grey levels 0 to 16, the test part of the UCI set "Optical
Recognition of Handwritten Digits"; the levels are scaled to 0..255. The library has no split, so one is fixed
here: sort the images by class (stable); every fifth, beginning with the first, is a test image. That gives
1,437 training and 360 test images, with every class within one image of its fifth. Both keep the library's
order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from winnow.data.batch import Images, Labels

GREY_LEVELS = 16
TEST_EVERY = 5

Floats = npt.NDArray[np.float64]


class Digits(NamedTuple):
    """All digits in the library's order: uint8 (n, 8, 8), int64 (n,), bool (n,)."""

    images: Images
    labels: Labels
    is_test: npt.NDArray[np.bool_]


def load() -> Digits:
    """Return the digits with their split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = digits.target.astype(np.int64)
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[np.argsort(labels, kind="stable")[::TEST_EVERY]] = True
    return Digits(np.rint(digits.images * (255 / GREY_LEVELS)).astype(np.uint8), labels, is_test)


def measure(images: Images) -> dict[str, Floats]:
    """Return four measures of each bright picture on black, uint8 (n, h, w), as float64 (n,).

    ink: mean intensity in [0, 1]. stroke: 2 A / V, in pixels, with A the summed intensity and V the total
    variation (sum of absolute differences of neighbours, black around the picture): a long bar of width w has
    A = w l and V = 2 (w + l), so this tends to w. slant: minus the slope of x on y (y points down) from the
    second moments, so it is positive where the top leans to the right. size: width x height of the bounding
    box as a share of the picture; the width is the sum of the columns' largest values, which counts a faint
    column in part. A black picture has stroke and slant 0.
    """
    x = images.astype(np.float64) / 255
    height, width = x.shape[1:]
    total = x.sum(axis=(1, 2))
    framed = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    variation = sum(np.abs(np.diff(framed, axis=axis)).sum(axis=(1, 2)) for axis in (1, 2))
    box = x.max(axis=1).sum(axis=1) * x.max(axis=2).sum(axis=1)
    return {
        "ink": total / (height * width),
        "stroke": _ratio(2 * total, np.asarray(variation)),
        "slant": _slant(x, total),
        "size": box / (height * width),
    }


def _slant(x: Floats, total: Floats) -> Floats:
    weights = x / np.where(total > 0, total, 1)[:, None, None]
    rows, columns = (np.arange(length, dtype=np.float64) for length in x.shape[1:])
    dy = rows - (weights.sum(axis=2) @ rows)[:, None]
    dx = columns - (weights.sum(axis=1) @ columns)[:, None]
    covariance = np.einsum("nij,ni,nj->n", weights, dy, dx)
    return _ratio(-covariance, np.einsum("nij,ni->n", weights, dy**2))


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
