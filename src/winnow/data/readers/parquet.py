"""Parquet files with encoded images in a column, next to captions and attributes (image-text pairs)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.data.archive import damaged
from winnow.data.batch import BATCH, Batch
from winnow.data.pictures import Fit, decode_all
from winnow.data.tables import TableOptions, require_columns, table_batches
from winnow.errors import UserError
from winnow.plan.catalogue import DatasetEntry

if TYPE_CHECKING:
    import pandas


class Options(TableOptions):
    """Options of the reader `parquet`: `image` is a column of bytes or of structs with a field `bytes`."""

    image: str | None = None
    resize: bool = False
    fit: Fit = "stretch"


def read(entry: DatasetEntry, files: dict[str, Path]) -> Iterator[Batch]:
    """Yield the splits in the files' order; the image column is decoded and leaves the table."""
    options = Options.model_validate(entry.options)
    if (options.image is None) != (entry.shape is None):
        raise UserError(
            f"datasets.yaml: {entry.name}: a `shape` and the option `image` go together; give both or none."
        )
    for split, where in options.splits.items():
        path = files[where.file]
        for batch, rows in table_batches(entry, options, split, _frames(path, options), path):
            if options.image is None or entry.shape is None:
                yield batch
                continue
            encoded = ((f"{path}, row {row}", _bytes(v, path)) for row, v in rows[options.image].items())
            assert batch.table is not None
            table = batch.table.drop(columns=options.image, errors="ignore")
            images = decode_all(encoded, entry.shape, options.resize, options.fit)
            yield replace(batch, table=table, images=images)


def _frames(path: Path, options: Options) -> Iterator[pandas.DataFrame]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = [options.label, options.id, options.image, *options.captions]
            require_columns([*options.columns, *options.require, *names], file.schema_arrow.names, path)
            wanted = {*options.columns, *options.require, *filter(None, names)} if options.columns else None
            first = 0
            for part in file.iter_batches(BATCH, columns=sorted(wanted) if wanted else None):
                frame = part.to_pandas()
                frame.index += first
                first += len(frame)
                yield frame
    except (pyarrow.ArrowException, OSError) as error:
        raise damaged(path, error) from error


def _bytes(value: Any, path: Path) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise UserError(f"{path}: the image column holds {type(content).__name__} where bytes are needed.")
    return content
