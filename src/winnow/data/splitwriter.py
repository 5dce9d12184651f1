"""Writing one split of a dataset: images straight into their rows on disk, the rest when it is whole."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from winnow.data.batch import Batch, Images, Labels, Vectors, chunks
from winnow.data.recaption import recaptioned, written
from winnow.errors import UserError, one_of
from winnow.plan.catalogue import DatasetEntry, Recaption

if TYPE_CHECKING:
    import pandas


def stratified_rows(labels: Labels | None, n: int, keep: int, rng: np.random.Generator) -> Labels:
    """Return `keep` of the rows 0..n-1, ascending, drawn at random in proportion to the classes.

    Quotas are by largest remainder (ties to the lower label), so the total is exact. Without labels, all
    rows are one class.
    """
    labels = np.zeros(n, dtype=np.int64) if labels is None else labels
    counts = np.bincount(labels)
    shares = counts * keep
    quotas = shares // n
    short = keep - int(quotas.sum())
    quotas[np.argsort(-(shares % n), kind="stable")[:short]] += 1
    members = (np.flatnonzero(labels == label) for label in range(len(counts)))
    chosen = [
        rng.choice(rows, size=quota, replace=False) for rows, quota in zip(members, quotas, strict=True)
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


class SplitWriter:
    """Collects the batches of one split of `n` examples and writes its files into the folder `out`."""

    def __init__(self, entry: DatasetEntry, split: str, n: int, out: Path) -> None:
        self.entry, self.split, self.n, self.of, self.out = entry, split, n, n, out
        self.where = f"{entry.name}, split {split}"
        self.filled = np.zeros(n, dtype=bool)
        self.next_row = 0
        self.labels: Labels | None = None
        self.clean_labels: Labels | None = None
        self.images: Images | Vectors | None = None
        self.swapped: npt.NDArray[np.bool_] | None = None
        self.tables: list[pandas.DataFrame] = []
        self.shards: list[pandas.DataFrame] = []
        self.counts: Counter[str] = Counter()
        width = len(str(n - 1))
        self.ids: npt.NDArray[np.object_] = np.array(
            [f"{entry.name}/{split}/{row:0{width}d}" for row in range(n)], dtype=object
        )

    def add(self, batch: Batch) -> None:
        """Store one batch after checking its size, shape and labels."""
        rows = np.arange(self.next_row, self.next_row + len(batch)) if batch.rows is None else batch.rows
        self.next_row += len(batch)
        if rows.max(initial=0) >= self.n or self.filled[rows].any():
            raise UserError(
                f"{self.where}: the files hold more than the {self.n} examples that datasets.yaml states."
            )
        self.filled[rows] = True
        if batch.images is not None:
            self._add_images(batch.images, rows)
        if batch.labels is not None:
            self._add_labels(batch.labels, rows)
        if batch.table is not None:
            self.tables.append(batch.table.set_axis(rows, axis=0))
        if batch.shards is not None:
            self.shards.append(batch.shards.set_axis(rows, axis=0))
        self.counts.update(batch.counts)
        if batch.ids:
            self.ids[rows] = batch.ids

    def _add_images(self, images: Images | Vectors, rows: Labels) -> None:
        dtype = np.dtype(np.float32 if self.entry.kind == "vectors" else np.uint8)
        if images.dtype != dtype or images.shape[1:] != self.entry.shape:
            raise UserError(
                f"{self.where}: images are {images.dtype} {images.shape[1:]}, "
                f"datasets.yaml states {dtype} {self.entry.shape}."
            )
        if self.images is None:
            self.images = _create(self.out / f"{self.split}_images.npy", (self.n, *images.shape[1:]), dtype)
        self.images[rows] = images

    def _add_labels(self, labels: Labels, rows: Labels) -> None:
        count = self.entry.class_count
        if count is None:
            raise UserError(
                f"datasets.yaml: {self.entry.name}: the files have labels; give `classes` or `n_classes`."
            )
        wrong = np.flatnonzero((labels < 0) | (labels >= count))
        if len(wrong):
            raise UserError(
                f"{self.where}, example {rows[wrong[0]]}: label {labels[wrong[0]]} is out of range. "
                f"Accepted: 0 to {count - 1}."
            )
        if self.labels is None:
            self.labels = np.full(self.n, -1, dtype=np.int64)
        self.labels[rows] = labels

    def whole_labels(self) -> Labels:
        """Return the labels of a split that has been read in full; without any, that is an error."""
        if self.labels is None:
            raise UserError(f"{self.where}: has no labels.")
        return self.labels

    def relabel(self, labels: Labels) -> None:
        """Replace the labels; the ones that were read become the clean labels."""
        self.clean_labels = self.whole_labels().copy()
        if len(labels) != self.n:
            raise UserError(f"{self.where}: {len(labels)} new labels for {self.n} examples.")
        self._add_labels(labels, np.arange(self.n))

    def cut(self, count: int, split: str, seed: int) -> SplitWriter:
        """Move `count` examples, drawn in proportion to the classes, to a new split; returns its writer."""
        rng = np.random.default_rng([seed, zlib.crc32(split.encode())])
        rows = stratified_rows(self.labels, self.n, count, rng)
        part = SplitWriter(self.entry, split, self.n, self.out)
        part.filled[:], part.ids, part.labels = True, self.ids, self.labels
        part.tables, part.images, part.clean_labels = self.tables, self.images, self.clean_labels
        part.shards = self.shards
        part._select(rows)
        self._select(np.setdiff1d(np.arange(self.n), rows))
        return part

    def settle(self, keep: int | None, seed: int) -> None:
        """Check that the split is whole and keep the part asked for."""
        if not self.filled.all():
            held = int(self.filled.sum())
            raise UserError(f"{self.where}: the files hold {held} examples, datasets.yaml states {self.n}.")
        if self.labels is not None and (self.labels < 0).any():
            raise UserError(
                f"{self.where}, example {int(np.argmin(self.labels))}: has no label, others have."
            )
        if len(set(self.ids)) < self.n:
            raise UserError(
                f"{self.where}: two examples have the same id; name another column in `options.id`."
            )
        if keep is not None and keep < self.n:
            self._keep(keep, seed)

    def recaption(self, change: Recaption, seed: int) -> None:
        """Write the captions of the examples that are kept anew, or put noise in; note which were swapped."""
        table = self.whole_table()
        if table is None or "caption" not in table:
            columns = one_of(table.columns) if table is not None else "no table"
            raise UserError(f"{self.where}: `recaption` needs a column 'caption'. The split has {columns}.")
        if table["caption"].isna().any():
            row = int(np.argmax(table["caption"].isna()))
            raise UserError(f"{self.where}, example {row}: has no caption; set `require: [caption]`.")
        rng = np.random.default_rng([seed, zlib.crc32(b"recaption")])
        captions = table["caption"].tolist()
        if change.template is not None:
            captions = written(change.template, self._named_columns(table), self.where)
        captions, self.swapped = recaptioned(captions, change, rng)
        self.tables = [table.assign(caption=captions)]

    def _named_columns(self, table: pandas.DataFrame) -> dict[str, list[object]]:
        """Return the table's columns by name and, as `label`, the classes' names where they are known."""
        columns = {str(name): list(values) for name, values in table.items()}
        if self.labels is not None and self.entry.classes and "label" not in columns:
            columns["label"] = [self.entry.classes[label] for label in self.labels]
        return columns

    def whole_table(self) -> pandas.DataFrame | None:
        """Return the rows of the table in order, or None if the split has no table."""
        import pandas

        return pandas.concat(self.tables).sort_index() if self.tables else None

    def write(self) -> None:
        """Write all but the images, which are there already."""
        if self.labels is not None:
            np.save(self.out / f"{self.split}_labels.npy", self.labels, allow_pickle=False)
        if self.clean_labels is not None:
            np.save(self.out / f"{self.split}_clean_labels.npy", self.clean_labels, allow_pickle=False)
        if self.swapped is not None:
            np.save(self.out / f"{self.split}_swapped.npy", self.swapped, allow_pickle=False)
        self._write_tables()

    def _keep(self, keep: int, seed: int) -> None:
        rng = np.random.default_rng([seed, zlib.crc32(self.split.encode())])
        rows = stratified_rows(self.labels, self.n, keep, rng)
        self._select(rows)

    def _select(self, rows: Labels) -> None:
        """Keep the given rows, ascending."""
        self.n, self.ids, self.filled = len(rows), self.ids[rows], self.filled[rows]
        self.tables, self.shards = (_kept(self.tables, rows), _kept(self.shards, rows))
        if self.labels is not None:
            self.labels = self.labels[rows]
        if self.clean_labels is not None:
            self.clean_labels = self.clean_labels[rows]
        if self.images is not None:
            path, part = (self.out / f"{self.split}_images.npy", self.out / f"{self.split}_images.part.npy")
            images = _create(part, (len(rows), *self.images.shape[1:]), self.images.dtype)
            for piece in chunks(len(rows)):
                images[piece] = self.images[rows[piece]]
            images.flush()  # type: ignore[attr-defined]
            os.replace(part, path)
            self.images = images

    def _write_tables(self) -> None:
        import pandas
        import pyarrow

        pandas.DataFrame({"id": self.ids.astype(str)}).to_parquet(
            self.out / f"{self.split}_ids.parquet", index=False
        )
        if self.shards:
            pandas.concat(self.shards).sort_index().to_parquet(
                self.out / f"{self.split}_shards.parquet", index=False
            )
        table = self.whole_table()
        if table is None:
            return
        try:
            table.to_parquet(self.out / f"{self.split}_table.parquet", index=False)
        except (pyarrow.ArrowException, ValueError) as error:
            raise UserError(
                f"{self.where}: a column mixes types ({error}). Name the others in `columns`."
            ) from error


def _kept(tables: list[pandas.DataFrame], rows: Labels) -> list[pandas.DataFrame]:
    """Return the given rows of the tables, numbered anew."""
    kept = (table[table.index.isin(rows)] for table in tables)
    return [table.set_axis(np.searchsorted(rows, table.index), axis=0) for table in kept]


def _create(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Images:
    """Return a new writable memory map of zeros.

    All its blocks are reserved at once: a write to a map on a full disk kills the process.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
