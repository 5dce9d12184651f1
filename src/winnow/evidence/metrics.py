"""The long table of metrics that all evidence is drawn from: its columns, and what is refused.

One row per (suite, arm, dataset, fraction, length, seed, metric). Shares such as accuracies lie in [0, 1].
The cost columns belong to the seed: every metric row of one seed and cell repeats them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from winnow.errors import UserError, one_of

AXES = ("dataset", "fraction", "length")
CELL = ("suite", "arm", *AXES)
COST_COLUMNS = (
    "selection_wall_s",
    "selection_cpu_s",
    "training_wall_s",
    "training_cpu_s",
    "evaluation_wall_s",
    "evaluation_cpu_s",
    "total_wall_s",
    "peak_memory_gb",
    "bytes_written",
)
COLUMNS = (
    *CELL,
    "method",
    "variant",
    "budget",
    "seed",
    "metric",
    "value",
    "metric_version",
    "device",
    *COST_COLUMNS,
)


def check_metrics(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of the table with fractions rounded to 6 decimals, or refuse it with a `UserError`.

    Refused: missing columns, values that are not finite, accuracies outside [0, 1], two versions of one
    metric, and two rows for the same cell, seed and metric.
    """
    missing = set(COLUMNS) - set(metrics.columns)
    if missing:
        raise UserError(f"metrics: column(s) missing: {one_of(missing)}. Run the evaluation stage again.")
    table = metrics.assign(fraction=metrics["fraction"].round(6))
    _refuse(table, ~table["value"].map(np.isfinite), "a value is not finite; mend the run")
    accuracy = table["metric"].str.endswith("accuracy")
    outside = accuracy & ~table["value"].between(0, 1)
    _refuse(table, outside, "an accuracy is outside [0, 1]; accuracies are fractions, not percent")
    twice = table.duplicated([*CELL, "seed", "metric"])
    _refuse(table, twice, "two rows for one cell, seed and metric; remove one")
    for metric, versions in table.groupby("metric")["metric_version"].unique().items():
        if len(versions) > 1:
            raise UserError(
                f"metrics: '{metric}' has versions {one_of(versions)} in one table."
                " Run the older ones again; versions are never mixed."
            )
    return table


def per_seed(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return one row per (suite, arm, dataset, fraction, length, seed) with its device and cost columns.

    Raises `UserError` where the metric rows of one seed and cell disagree about its cost.
    """
    keys = [*CELL, "seed"]
    rows = metrics[[*keys, "device", *COST_COLUMNS]].drop_duplicates()
    _refuse(rows, rows.duplicated(keys), "metric rows of one cell and seed state different costs")
    return rows.reset_index(drop=True)


def values_of(metrics: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return one row per cell and seed with column `value`: a metric, or a cost column by its name."""
    if metric in COST_COLUMNS:
        costs = per_seed(metrics)
        return costs[[*CELL, "seed", "device"]].assign(value=costs[metric].astype(float))
    return metrics.loc[metrics["metric"] == metric, [*CELL, "seed", "device", "value"]]


def _refuse(table: pd.DataFrame, bad: pd.Series[bool], why: str) -> None:
    if bad.any():
        row = table[bad].iloc[0]
        names = [name for name in (*CELL, "seed", "metric", "value") if name in table.columns]
        where = ", ".join(f"{name}={row[name]}" for name in names)
        raise UserError(f"metrics: {why} ({where}; {int(bad.sum())} row(s)).")
