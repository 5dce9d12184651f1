"""Data that comes with an installed library: the scikit-learn digits, split by `winnow.data.digits`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from winnow.data.batch import Batch
from winnow.data.digits import load
from winnow.plan.catalogue import DatasetEntry, ReaderOptions


class Options(ReaderOptions):
    """Options of the reader `bundled`."""

    source: Literal["scikit-learn digits"]


def read(entry: DatasetEntry, files: dict[str, Path]) -> Iterator[Batch]:
    """Yield the two splits; needs no file."""
    Options.model_validate(entry.options)
    digits = load()
    for split, rows in (("train", ~digits.is_test), ("test", digits.is_test)):
        yield Batch(split, images=digits.images[rows][..., np.newaxis], labels=digits.labels[rows])
