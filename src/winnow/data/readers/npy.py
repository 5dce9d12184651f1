"""NumPy arrays: `.npy` files, or arrays of `.npz` files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from winnow.data.arrays import ArrayRef, integer_labels, load_array
from winnow.data.batch import Batch, chunks, same_length
from winnow.errors import UserError
from winnow.plan.catalogue import DatasetEntry, Frozen, ReaderOptions, Split


class SplitArrays(Frozen):
    """Images uint8 (n, h, w, c), or (n, h, w) for grey ones, and whole-number labels (n,)."""

    images: ArrayRef
    labels: ArrayRef | None = None


class Options(ReaderOptions):
    """Options of the reader `npy`."""

    splits: dict[Split, SplitArrays]

    def file_names(self) -> set[str]:
        """Return the files that these options name."""
        references = [ref for split in self.splits.values() for ref in (split.images, split.labels)]
        return {reference.file for reference in references if reference}


def read(entry: DatasetEntry, files: dict[str, Path]) -> Iterator[Batch]:
    """Yield the splits in the arrays' order."""
    for split, arrays in Options.model_validate(entry.options).splits.items():
        where = f"{files[arrays.images.file]}, split {split}"
        images = load_array(arrays.images, files)
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise UserError(
                f"{where}: images must be uint8 (n, h, w[, c]), found {images.dtype} {images.shape}."
            )
        labels = integer_labels(load_array(arrays.labels, files), where) if arrays.labels else None
        if labels is not None:
            same_length(len(images), len(labels), where)
        for part in chunks(len(images)):
            batch = np.asarray(images[part])
            yield Batch(
                split,
                images=batch if batch.ndim == 4 else batch[..., np.newaxis],
                labels=None if labels is None else labels[part],
            )
