"""Parquet tables: atomic writes, clear errors on damaged files."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pyarrow

from winnow.errors import UserError
from winnow.store import write_atomic


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet under its final name in one rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_atomic(path, buffer.getvalue())


def read_table(path: Path) -> pd.DataFrame:
    """Read a Parquet table; a missing or damaged one is a clear error."""
    try:
        return pd.read_parquet(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there. Run the stage that makes it first.") from error
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(
            f"{path}: damaged, not a Parquet table ({error}). Delete it and run again."
        ) from error
