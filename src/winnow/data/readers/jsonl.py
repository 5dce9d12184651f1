"""JSON Lines: one JSON object per line, UTF-8."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.data.batch import BATCH, Batch
from winnow.data.tables import TableOptions, table_batches
from winnow.errors import UserError
from winnow.plan.catalogue import DatasetEntry

if TYPE_CHECKING:
    import pandas


class Options(TableOptions):
    """Options of the reader `jsonl`."""


def read(entry: DatasetEntry, files: dict[str, Path]) -> Iterator[Batch]:
    """Yield the splits in the files' order."""
    options = Options.model_validate(entry.options)
    for split, where in options.splits.items():
        path = files[where.file]
        for batch, _ in table_batches(entry, options, split, _frames(path), path):
            yield batch


def _frames(path: Path) -> Iterator[pandas.DataFrame]:
    import pandas

    objects = _objects(path)
    while piece := list(islice(objects, BATCH)):
        yield pandas.DataFrame.from_records(piece)


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                value = json.loads(line)
                if not isinstance(value, dict):
                    raise UserError(
                        f"{path}, line {number}: expected a JSON object, found {type(value).__name__}."
                    )
                yield value
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}, line {number}: not valid JSON ({error.msg}, column {error.colno})."
            ) from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: is not UTF-8 text ({error.reason}).") from error
