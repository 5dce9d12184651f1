"""What readers yield."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from winnow.errors import UserError

if TYPE_CHECKING:
    import pandas

Images = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

BATCH = 1024


@dataclass(frozen=True)
class Batch:
    """Some examples of one split.

    `images` is uint8 (b, h, w, c), of `kind: vectors` float32 (b, vectors, dimensions, 1); `labels` int64
    (b,); `table` has one row per example. `shards` says where images that stay in shards lie
    (`winnow.data.lazy`). `rows` int64 (b,) are the positions within the split, or None for "the next b".
    `ids` are published identifiers, or an empty list where there are none (the position then serves).
    `classes` are the class names in label order, where the files give them. `counts` adds to what
    `dataset.json` says was left out of the split, by reason.
    """

    split: str
    images: Images | Vectors | None = None
    labels: Labels | None = None
    table: pandas.DataFrame | None = None
    shards: pandas.DataFrame | None = None
    rows: Labels | None = None
    ids: list[str] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        parts = (self.images, self.labels, self.table, self.shards)
        return next((len(part) for part in parts if part is not None), 0)


def chunks(n: int, size: int = BATCH) -> Iterator[slice]:
    """Yield the slices of at most `size` that cover `range(n)` in order."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def same_length(images: int, labels: int, where: str) -> None:
    """Raise `UserError` unless there is one label per image."""
    if images != labels:
        raise UserError(f"{where}: {images} images but {labels} labels.")
