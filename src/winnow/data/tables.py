"""What the readers of tables share: choosing the rows of a split, identifiers, labels and columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import NonNegativeInt, PositiveInt, model_validator

from winnow.data.batch import Batch, Labels
from winnow.errors import UserError, unknown
from winnow.plan.catalogue import DatasetEntry, FileName, Frozen, ReaderOptions, Split

if TYPE_CHECKING:
    import pandas


class Part(Frozen):
    """The rows whose number modulo `of` is in `take`, or not in `leave`: a fixed split of a file."""

    of: PositiveInt
    take: tuple[NonNegativeInt, ...] = ()
    leave: tuple[NonNegativeInt, ...] = ()

    @model_validator(mode="after")
    def _remainders_exist(self) -> Self:
        if bool(self.take) == bool(self.leave):
            raise ValueError("give `take` or `leave`, one of the two, with at least one remainder.")
        for name, listed in (("take", self.take), ("leave", self.leave)):
            if max(listed, default=0) >= self.of:
                raise ValueError(
                    f"`{name}` holds {max(listed)}; remainders of {self.of} are 0 to {self.of - 1}."
                )
        return self

    def holds(self, numbers: Labels) -> npt.NDArray[np.bool_]:
        """Return which of the row numbers (n,) are in the part."""
        found = np.isin(numbers % self.of, self.take or self.leave)
        return found if self.take else ~found


def refuse_overlaps(chosen: Iterable[tuple[str, set[str], Part | None]]) -> None:
    """Raise `ValueError` where two splits take rows of one source: models would be tested on what they saw.

    chosen: of each split its name, its sources, and the part of their rows that it takes (None: all).
    """
    for (one, sources, part), (other, others, rest) in combinations(chosen, 2):
        common = math.gcd(part.of if part else 1, rest.of if rest else 1)
        # Numbers with given remainders of two divisors exist where these agree modulo what divides both.
        if sources & others and _remainders(part, common) & _remainders(rest, common):
            raise ValueError(
                f"`{one}` and `{other}` share rows of {min(sources & others)}; give each a `part` that the"
                " other one leaves."
            )


def _remainders(part: Part | None, divisor: int) -> set[int]:
    """Return the remainders modulo `divisor`, which divides the part's own, of the rows of a part."""
    numbers = np.arange(part.of if part else 1)
    return set((numbers[part.holds(numbers)] if part else numbers) % divisor)


class SplitTable(Frozen):
    """The file with a split's rows; all of them, or the given part."""

    file: FileName
    part: Part | None = None


class TableOptions(ReaderOptions):
    """Options of every reader of tables.

    `columns` (default: all) are kept; `label` and `id` name columns. `captions` names those that hold an
    example's captions, one or a list of them each, where that is not `caption` alone. A row that lacks a
    value in one of the columns `require` (null, an empty text or list) is left out; `part` counts it all the
    same.
    """

    splits: dict[Split, SplitTable]
    columns: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    label: str | None = None
    id: str | None = None
    require: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _splits_are_apart(self) -> Self:
        refuse_overlaps((name, {split.file}, split.part) for name, split in self.splits.items())
        return self

    def file_names(self) -> set[str]:
        """Return the files that these options name."""
        return {split.file for split in self.splits.values()}


def table_batches(
    entry: DatasetEntry, options: TableOptions, split: Split, frames: Iterable[pandas.DataFrame], path: Path
) -> Iterator[tuple[Batch, pandas.DataFrame]]:
    """Yield, for successive pieces of a file, the split's batch and the full rows it was made of."""
    part = options.splits[split].part
    start = 0
    for piece in frames:
        numbers = np.arange(start, start + len(piece))
        start += len(piece)
        require_columns(options.require, piece.columns, path)
        frame = piece.set_axis(numbers, axis=0)
        rows = frame[part.holds(numbers)] if part else frame
        for name in options.require:
            rows = rows[_filled(rows[name])]
        if len(rows):
            yield _batch(entry, options, split, rows, path), rows


def _filled(values: pandas.Series) -> npt.NDArray[np.bool_]:
    """Return which cells are neither null nor an empty text or list."""
    empty = [isinstance(value, str | list | np.ndarray) and len(value) == 0 for value in values]
    filled: npt.NDArray[np.bool_] = values.notna().to_numpy() & ~np.array(empty, dtype=bool)
    return filled


def require_columns(wanted: Iterable[str | None], present: Iterable[str], path: Path) -> None:
    """Raise `UserError` if a column is not in the file."""
    present = list(present)
    for name in wanted:
        if name is not None and name not in present:
            raise unknown("column", name, present, str(path))


def _batch(
    entry: DatasetEntry, options: TableOptions, split: Split, rows: pandas.DataFrame, path: Path
) -> Batch:
    """Return the batch of some rows of a file, whose index is their numbers there."""
    require_columns([*options.columns, *options.captions, options.label, options.id], rows.columns, path)
    table = rows[list(options.columns)] if options.columns else rows.drop(columns=list(options.captions))
    table = table.reset_index(drop=True)
    if options.captions:
        table = _captioned(table, rows[list(options.captions)], path)
    return Batch(
        split,
        labels=_labels(rows[options.label], entry, path) if options.label else None,
        table=table,
        ids=[f"{entry.name}/{split}/{value}" for value in rows[options.id]] if options.id else [],
    )


def _captioned(table: pandas.DataFrame, columns: pandas.DataFrame, path: Path) -> pandas.DataFrame:
    """Return a table with each row's captions as `caption`; columns that have none in it are left out."""
    import pandas

    found = []
    known = columns.astype(object).where(columns.notna(), None)
    for row, *cells in known.itertuples(name=None):
        own = [text for cell in cells for text in _texts(cell, f"{path}: row {row} (the first is 0)")]
        if not own:
            names = ", ".join(columns.columns)
            raise UserError(
                f"{path}: row {row} (the first is 0) has no caption in {names}; name one of them in `require`"
                " to leave such rows out."
            )
        found.append(own)
    return table.assign(caption=pandas.Series(found, index=table.index, dtype=object))


def _texts(cell: Any, where: str) -> list[str]:
    """Return the captions in a cell: a text, a list of texts, or null; without the spaces around them."""
    if isinstance(cell, str):
        return [cell.strip()] if cell.strip() else []
    if isinstance(cell, list | tuple | np.ndarray):
        return [text for part in cell for text in _texts(part, where)]
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return []
    raise UserError(
        f"{where}: a caption is a text or a list of texts, here is {cell!r:.60}. Name other columns in"
        " `captions`, or write the texts into a column of their own."
    )


def _labels(values: pandas.Series, entry: DatasetEntry, path: Path) -> Labels:
    """Return labels as int64: whole numbers as they are, names by their place in the entry's `classes`."""
    if values.isna().any():
        row = values.index[int(np.argmax(values.isna()))]
        raise UserError(f"{path}: column '{values.name}' lacks a label in row {row} (the first is 0).")
    if values.dtype.kind in "iu":
        return values.to_numpy(dtype=np.int64)
    index = {name: label for label, name in enumerate(entry.classes)}
    for value in values[~values.isin(list(index))]:
        raise unknown("class", value, index, f"{path}: column '{values.name}'")
    return np.array([index[value] for value in values], dtype=np.int64)
