"""Data that comes with an installed library: the scikit-learn digits.

1,797 handwritten digits of 8x8 pixels with grey levels 0 to 16, the test part of the UCI set "Optical
Recognition of Handwritten Digits"; the levels are scaled to 0..255. The library has no split, so one is fixed
here: sort the images by class (stable); every fifth, beginning with the first, is a test image. That gives
1,437 training and 360 test images, with every class within one image of its fifth. Both keep the library's
order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from winnow.data.batch import Batch
from winnow.plan.catalogue import DatasetEntry, ReaderOptions

GREY_LEVELS = 16
TEST_EVERY = 5


class Options(ReaderOptions):
    """Options of the reader `bundled`."""

    source: Literal["scikit-learn digits"]


def read(entry: DatasetEntry, files: dict[str, Path]) -> Iterator[Batch]:
    """Yield the two splits; needs no file."""
    from sklearn.datasets import load_digits

    Options.model_validate(entry.options)
    digits = load_digits()
    labels = digits.target.astype(np.int64)
    images = np.rint(digits.images * (255 / GREY_LEVELS)).astype(np.uint8)[..., np.newaxis]
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[np.argsort(labels, kind="stable")[::TEST_EVERY]] = True
    yield Batch("train", images=images[~is_test], labels=labels[~is_test])
    yield Batch("test", images=images[is_test], labels=labels[is_test])
