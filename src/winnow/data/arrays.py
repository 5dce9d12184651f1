"""NumPy files named in a reader's options."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from winnow.data.archive import damaged
from winnow.errors import UserError, unknown
from winnow.plan.catalogue import FileName, Frozen


class ArrayRef(Frozen):
    """An array: the whole of a `.npy` file, or the one called `array` in a `.npz` file."""

    file: FileName
    array: str | None = None


def load_array(reference: ArrayRef, files: dict[str, Path]) -> npt.NDArray[np.generic]:
    """Return the array; a `.npy` file is memory-mapped. Object arrays (which are pickles) are refused."""
    path = files[reference.file]
    try:
        content = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            if reference.array not in content.files:
                raise unknown("array", reference.array, content.files, str(path))
            return np.asarray(content[reference.array])
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise damaged(path, error) from error


def integer_labels(array: npt.NDArray[np.generic], where: str) -> npt.NDArray[np.int64]:
    """Return one-dimensional whole-number labels as int64, or raise `UserError`."""
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise UserError(
            f"{where}: labels must be whole numbers of shape (n,), found {array.dtype} {array.shape}."
        )
    return array.astype(np.int64)
