"""Arrays named in a reader's options: in files of NumPy and of MATLAB, by themselves or in an archive."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from winnow.data.archive import damaged, inspect
from winnow.errors import UserError, unknown
from winnow.plan.catalogue import FileName, Frozen


class ArrayRef(Frozen):
    """An array: the whole of a `.npy` file, or the one called `array` in a `.npz` or `.mat` file.

    With `member`, `file` is an archive, and the array in that member of it.
    """

    file: FileName
    array: str | None = None
    member: str | None = None


def load_array(reference: ArrayRef, files: dict[str, Path]) -> npt.NDArray[np.generic]:
    """Return the array; a `.npy` file is memory-mapped. Object arrays (which are pickles) are refused."""
    path, where = files[reference.file], str(files[reference.file])
    source: Path | io.BytesIO = path
    if reference.member is not None:
        where = f"{path}: {reference.member}"
        source = io.BytesIO(inspect(path, {reference.member})[1][reference.member])
    try:
        if (reference.member or reference.file).endswith(".mat"):
            return _of_matlab(source, reference.array, where)
        content = np.load(source, mmap_mode="r" if source is path else None, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            if reference.array not in content.files:
                raise unknown("array", reference.array, content.files, where)
            return np.asarray(content[reference.array])
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise damaged(path, error) from error


def _of_matlab(source: Path | io.BytesIO, name: str | None, where: str) -> npt.NDArray[np.generic]:
    """Return an array of MATLAB: a vector, which MATLAB keeps as a matrix, as one; cells of text as text."""
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        names = [found for found, *_ in whosmat(source)]
        if name not in names:
            raise unknown("array", name, names, where)
        if isinstance(source, io.BytesIO):
            source.seek(0)
        found = np.asarray(loadmat(source, variable_names=[name])[name])
    except (MatReadError, NotImplementedError, TypeError, IndexError, zlib.error) as error:
        raise ValueError(str(error)) from error
    if found.ndim == 2 and 1 in found.shape:
        found = found.ravel()
    if found.dtype == object:
        return np.array([str(np.asarray(cell).item()) for cell in found.ravel()])
    return found


def integer_labels(array: npt.NDArray[np.generic], where: str) -> npt.NDArray[np.int64]:
    """Return one-dimensional whole-number labels as int64, or raise `UserError`."""
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise UserError(
            f"{where}: labels must be whole numbers of shape (n,), found {array.dtype} {array.shape}."
        )
    return array.astype(np.int64)
