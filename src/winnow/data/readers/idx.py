"""IDX files (the format of MNIST and Fashion-MNIST), plain or gzip-compressed.

Format: two zero bytes, a type code (0x08 is uint8), the number of dimensions, each dimension as a big-endian
32-bit integer, then the values in row-major order.
Source: http://yann.lecun.com/exdb/mnist/, section "File formats".
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from winnow.data.archive import damaged
from winnow.data.batch import Batch, chunks, same_length
from winnow.errors import UserError
from winnow.plan.catalogue import DatasetEntry, FileName, Frozen, ReaderOptions, Split

UINT8 = 0x08


class SplitFiles(Frozen):
    """The two files of a split."""

    images: FileName
    labels: FileName


class Options(ReaderOptions):
    """Options of the reader `idx`."""

    splits: dict[Split, SplitFiles]

    def file_names(self) -> set[str]:
        """Return the files that these options name."""
        return {name for split in self.splits.values() for name in (split.images, split.labels)}


def read(entry: DatasetEntry, files: dict[str, Path]) -> Iterator[Batch]:
    """Yield the splits in the files' order."""
    for split, names in Options.model_validate(entry.options).splits.items():
        with _opened(files[names.labels]) as stream:
            (n_labels,) = _header(stream, files[names.labels], n_dimensions=1)
            labels = np.frombuffer(_exactly(stream, n_labels), np.uint8).astype(np.int64)
        with _opened(files[names.images]) as stream:
            n, height, width = _header(stream, files[names.images], n_dimensions=3)
            same_length(n, n_labels, f"{entry.name}, split {split}")
            for part in chunks(n):
                size = part.stop - part.start
                pixels = np.frombuffer(_exactly(stream, size * height * width), np.uint8)
                yield Batch(split, images=pixels.reshape(size, height, width, 1), labels=labels[part])


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            yield cast(BinaryIO, stream)
    except (EOFError, zlib.error, OSError) as error:
        raise damaged(path, error) from error


def _header(stream: BinaryIO, path: Path, n_dimensions: int) -> tuple[int, ...]:
    zeros, code, found = struct.unpack(">HBB", _exactly(stream, 4))
    if zeros != 0 or code != UINT8 or found != n_dimensions:
        raise UserError(
            f"{path}: expected an IDX file of uint8 with {n_dimensions} dimension(s), "
            f"found type code {code:#04x} with {found}."
        )
    return struct.unpack(f">{found}I", _exactly(stream, 4 * found))


def _exactly(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise EOFError(f"it ends {size - len(content)} bytes early")
    return content
