"""Delimited text with a header line: CSV, TSV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from winnow.data.batch import BATCH, Batch
from winnow.data.tables import TableOptions, table_batches
from winnow.errors import UserError
from winnow.plan.catalogue import DatasetEntry

if TYPE_CHECKING:
    import pandas


class Options(TableOptions):
    """Options of the reader `csv`; `names` gives the columns of a file without a header line.

    Spaces around the names in a header line are no part of them.
    """

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    encoding: str = "utf-8"
    names: tuple[str, ...] = ()


def read(entry: DatasetEntry, files: dict[str, Path]) -> Iterator[Batch]:
    """Yield the splits in the files' order."""
    options = Options.model_validate(entry.options)
    for split, where in options.splits.items():
        path = files[where.file]
        for batch, _ in table_batches(entry, options, split, _frames(path, options), path):
            yield batch


def _frames(path: Path, options: Options) -> Iterator[pandas.DataFrame]:
    import pandas

    try:
        with pandas.read_csv(
            path,
            sep=options.delimiter,
            encoding=options.encoding,
            names=list(options.names) or None,
            chunksize=BATCH,
            keep_default_na=False,
        ) as pieces:
            for piece in pieces:
                yield piece.rename(columns=str.strip)
    except (ValueError, LookupError, pandas.errors.ParserError) as error:
        raise UserError(f"{path}: cannot be read as delimited text ({error}).") from error
