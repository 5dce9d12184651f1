"""A prepared dataset, opened for reading."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from winnow.data.batch import Labels
from winnow.data.lazy import ImageSource, ShardImages, joined
from winnow.errors import UserError, unknown
from winnow.store import MANIFEST, verified

if TYPE_CHECKING:
    import pandas

WHITENING = "whitening.npy"


@dataclass(frozen=True)
class Dataset:
    """The arrays and tables of one dataset, read from disk when asked for.

    `shape` is (h, w, c), or () for text; `mean` and `std` are per channel, of the training images in [0, 1];
    `counts` gives the number of examples per split. The pool is the examples that methods choose from: the
    splits named in `pool`, one after the other. In a stored artefact every file is checked against the
    manifest when it is read. `data` is the folder with the downloads, in which the shards of images lie that
    have not been written out as pixels, and `shards` gives the bytes of each.
    """

    folder: Path
    name: str
    kind: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    counts: dict[str, int]
    pool: tuple[str, ...]
    data: Path
    shards: dict[str, int]

    @classmethod
    def open(cls, folder: Path, data: Path | None = None) -> Dataset:
        """Open a folder written by `prepare`; raises `UserError` if it is not one or is damaged.

        data: the folder with the downloads (default: `data` of the store in which the artefact is).
        """
        path = folder / "dataset.json"
        try:
            facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            lists = {key: tuple(facts[key] or ()) for key in ("shape", "classes", "mean", "std", "pool")}
            counts = {split: int(about["n"]) for split, about in facts["splits"].items()}
            shards = {str(name): int(size) for name, size in facts.get("shards", {}).items()}
            data = data or folder.resolve().parent.parent.parent / "data"
            return cls(folder, facts["name"], facts["kind"], counts=counts, data=data, shards=shards, **lists)
        except FileNotFoundError as error:
            raise UserError(f"{path}: there is no prepared dataset here.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(path, error) from error

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the names of the splits."""
        return tuple(self.counts)

    def n(self, split: str) -> int:
        """Return the number of examples of a split."""
        if split not in self.counts:
            raise unknown("split", split, self.counts, str(self.folder))
        return self.counts[split]

    def images(self, split: str) -> ImageSource:
        """Return the images, uint8 (n, h, w, c): memory-mapped and read-only, or decoded when asked for."""
        if not self.shards:
            return cast(ImageSource, self._array(split, "images"))
        index = self._parquet(split, "shards")
        if len(index) != self.n(split):
            raise UserError(
                f"{self.folder}: {len(index)} images in shards, dataset.json states {self.n(split)}."
            )
        return ShardImages(index, self.data, self.shape, self.shards)

    def labels(self, split: str) -> Labels:
        """Return the labels, int64 (n,), memory-mapped and read-only."""
        return cast(Labels, self._array(split, "labels"))

    def has_labels(self, split: str) -> bool:
        """Return whether the split has labels."""
        return (self.folder / f"{split}_labels.npy").is_file()

    def clean_labels(self, split: str) -> Labels:
        """Return the labels before the dataset was relabelled, int64 (n,): for evaluations alone."""
        return cast(Labels, self._array(split, "clean_labels"))

    def swapped(self, split: str) -> npt.NDArray[np.bool_]:
        """Return which captions were moved here from another example, bool (n,): for evaluations alone."""
        return cast("npt.NDArray[np.bool_]", self._array(split, "swapped"))

    def ids(self, split: str) -> list[str]:
        """Return the examples' identifiers, which outlive limits and subsets."""
        return [str(value) for value in self._parquet(split, "ids")["id"]]

    def table(self, split: str) -> pandas.DataFrame:
        """Return captions, texts and attributes, one row per example."""
        return self._parquet(split, "table")

    def sizes(self, split: str) -> npt.NDArray[np.float64]:
        """Return the width and height in pixels of each image of a pair as it was published, (n, 2).

        They are columns of the table, or of the places of images that stay in shards; of a crawl that did not
        note them, they are those of the reduced images, and where nothing is known, those of the fitted ones.
        """
        tables = [self.table(split), *([self._parquet(split, "shards")] if self.shards else [])]
        for sides in (["original_width", "original_height"], ["width", "height"]):
            for table in tables:
                if set(sides) <= set(table.columns):
                    return table[sides].to_numpy(np.float64)
        height, width, _ = self.shape
        return np.tile(np.array([width, height], dtype=np.float64), (self.n(split), 1))

    def captions(self, split: str) -> list[list[str]]:
        """Return each example's captions, one or several; data without captions are a user's mistake."""
        path = self.folder / f"{split}_table.parquet"
        table = self.table(split) if path.is_file() else None
        if table is None or "caption" not in table:
            raise UserError(f"{path}: dataset '{self.name}' has no captions; choose one of `kind: pairs`.")
        found = [[own] if isinstance(own, str) else [str(text) for text in own] for own in table["caption"]]
        if not all(found):
            row = next(place for place, own in enumerate(found) if not own)
            raise UserError(f"{path}: row {row} has an empty list of captions; leave it out of the data.")
        return found

    def whitening(self) -> npt.NDArray[np.float32] | None:
        """Return ZCA's matrix and below it its mean, (d + 1, d), or None: see `winnow.data.whitening`."""
        path = self.folder / WHITENING
        if not path.is_file():
            return None
        checked = verified(self.folder, WHITENING) if (self.folder / MANIFEST).is_file() else path
        return cast("npt.NDArray[np.float32]", np.load(checked, mmap_mode="r", allow_pickle=False))

    def with_pool(self, split: str) -> Dataset:
        """Return the dataset with one split as its pool."""
        self.n(split)
        return replace(self, pool=(split,))

    @property
    def pool_size(self) -> int:
        """Return the number of examples in the pool."""
        return sum(self.n(split) for split in self.pool)

    def pool_images(self) -> ImageSource:
        """Return the pool's images, uint8 (n, h, w, c), as `images` does; arrays are joined in memory."""
        parts = [self.images(split) for split in self.pool]
        if len(parts) == 1:
            return parts[0]
        lazy = [part for part in parts if isinstance(part, ShardImages)]
        return joined(lazy) if lazy else np.concatenate([np.asarray(part) for part in parts])

    def pool_labels(self) -> Labels:
        """Return the pool's labels, int64 (n,), with -1 where an example has none."""
        return np.concatenate(
            [
                self.labels(split) if self.has_labels(split) else np.full(self.n(split), -1, dtype=np.int64)
                for split in self.pool
            ]
        )

    def pool_captions(self) -> list[list[str]]:
        """Return the captions of the pool's examples."""
        return [own for split in self.pool for own in self.captions(split)]

    def pool_ids(self) -> list[str]:
        """Return the identifiers of the pool's examples."""
        return [name for split in self.pool for name in self.ids(split)]

    def _array(self, split: str, what: str) -> Any:
        path = self._path(split, f"{what}.npy")
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise _damaged(path, error) from error
        if len(array) != self.n(split):
            raise UserError(f"{path}: holds {len(array)} examples, dataset.json states {self.n(split)}.")
        return array

    def _parquet(self, split: str, what: str) -> pandas.DataFrame:
        import pandas
        import pyarrow

        path = self._path(split, f"{what}.parquet")
        try:
            return pandas.read_parquet(path)
        except (pyarrow.ArrowException, OSError) as error:
            raise _damaged(path, error) from error

    def _path(self, split: str, name: str) -> Path:
        self.n(split)
        path = self.folder / f"{split}_{name}"
        if not path.is_file():
            raise UserError(f"{path}: dataset '{self.name}' has no {name.split('.')[0]} for split '{split}'.")
        return verified(self.folder, path.name) if (self.folder / MANIFEST).is_file() else path


def _damaged(path: Path, reason: Exception) -> UserError:
    return UserError(f"{path}: damaged ({reason!r}); delete the folder and prepare the dataset again.")
