"""Tightly packed uint8 images in a tar or zip archive: CIFAR-10 and CIFAR-100 (binary version), STL-10.

CIFAR: each record is one label byte (CIFAR-100: coarse, then fine) and 3,072 pixel bytes, one channel after
the other, each in row-major order (`layout: chw`). Source: https://www.cs.toronto.edu/~kriz/cifar.html.
STL-10: pixels and labels lie in separate members, each channel in column-major order (`layout: cwh`), labels
start at 1. Source: https://cs.stanford.edu/~acoates/stl10/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, NonNegativeInt, model_validator

from winnow.data import archive
from winnow.data.batch import Batch, Images, Labels, chunks, same_length
from winnow.errors import UserError
from winnow.plan.catalogue import DatasetEntry, FileName, Frozen, ReaderOptions, Split

# Axes of a stored image that bring it to (height, width, channels).
_TO_HWC = {"chw": (0, 2, 3, 1), "cwh": (0, 3, 2, 1)}


class SplitMembers(Frozen):
    """The members of the archive that hold a split: records in this order, and labels if they are apart."""

    records: tuple[str, ...] = Field(min_length=1)
    labels: str | None = None


class Options(ReaderOptions):
    """Options of the reader `packed_binary`: `label_bytes` precede each image, that at `label_at` counts."""

    archive: FileName
    layout: Literal["chw", "cwh"] = "chw"
    label_bytes: NonNegativeInt = 0
    label_at: NonNegativeInt = 0
    first_label: Literal[0, 1] = 0
    class_names: str | None = None
    splits: dict[Split, SplitMembers]

    @model_validator(mode="after")
    def _label_lies_in_the_record(self) -> Self:
        if self.label_at >= max(self.label_bytes, 1):
            raise ValueError(f"`label_at` is {self.label_at}; accepted: 0 to {max(self.label_bytes, 1) - 1}.")
        return self

    def file_names(self) -> set[str]:
        """Return the archive's name."""
        return {self.archive}


def read(entry: DatasetEntry, files: dict[str, Path]) -> Iterator[Batch]:
    """Yield the records in the archive's order, with the rows that the order in the options gives them."""
    options = Options.model_validate(entry.options)
    path = files[options.archive]
    label_members = {split.labels for split in options.splits.values() if split.labels}
    names_member = {options.class_names} if options.class_names else set()
    sizes, small = archive.inspect(path, label_members | names_member)
    classes = _lines(small[options.class_names]) if options.class_names else ()
    places = _places(entry, options, path, sizes)
    labels = _labels_apart(options, path, small, places)
    for name, read_bytes in archive.stream(path, set(places)):
        split, start, n = places[name]
        apart = labels.get(split)
        for part in chunks(n):
            rows = np.arange(start + part.start, start + part.stop)
            images, head = _records(read_bytes, len(rows), entry, options, f"{path}: {name}")
            stored = head if apart is None else apart[rows]
            zero_based = None if stored is None else stored - options.first_label
            yield Batch(split, images, zero_based, rows=rows, classes=classes)


def _labels_apart(
    options: Options, path: Path, small: dict[str, bytes], places: dict[str, tuple[Split, int, int]]
) -> dict[Split, Labels]:
    """Return the labels of each split that has them in a member of their own, as stored."""
    found = {}
    for split, members in options.splits.items():
        if members.labels:
            found[split] = np.frombuffer(small[members.labels], np.uint8).astype(np.int64)
            total = sum(places[name][2] for name in members.records)
            same_length(total, len(found[split]), f"{path}, split {split}")
    return found


def _places(
    entry: DatasetEntry, options: Options, path: Path, sizes: dict[str, int]
) -> dict[str, tuple[Split, int, int]]:
    """Return for each member of records its split, its first row and its number of records."""
    record = options.label_bytes + int(np.prod(_shape(entry)))
    places: dict[str, tuple[Split, int, int]] = {}
    for split, members in options.splits.items():
        archive.require(path, set(members.records), sizes)
        start = 0
        for name in members.records:
            if sizes[name] % record:
                raise UserError(
                    f"{path}: '{name}' has {sizes[name]} bytes, not a multiple of {record} per record."
                )
            places[name] = (split, start, sizes[name] // record)
            start += sizes[name] // record
    return places


def _records(
    read_bytes: Callable[[int], bytes], n: int, entry: DatasetEntry, options: Options, where: str
) -> tuple[Images, Labels | None]:
    height, width, channels = _shape(entry)
    record = options.label_bytes + height * width * channels
    content = read_bytes(n * record)
    if len(content) != n * record:
        raise UserError(
            f"{where} ends {n * record - len(content)} bytes early. Delete the file and fetch it again."
        )
    values = np.frombuffer(content, np.uint8).reshape(n, record)
    sides = (height, width) if options.layout == "chw" else (width, height)
    images = values[:, options.label_bytes :].reshape(n, channels, *sides).transpose(_TO_HWC[options.layout])
    return images, values[:, options.label_at].astype(np.int64) if options.label_bytes else None


def _shape(entry: DatasetEntry) -> tuple[int, int, int]:
    assert entry.shape is not None, "the catalogue requires a shape for images"
    return entry.shape


def _lines(content: bytes) -> tuple[str, ...]:
    return tuple(line.strip() for line in content.decode("utf-8").splitlines() if line.strip())
