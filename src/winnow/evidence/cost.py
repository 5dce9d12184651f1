"""What each arm costs: selection, training and evaluation apart, and the arms that no other arm beats."""

from __future__ import annotations

import numpy as np
import pandas as pd

from winnow.errors import UserError, unknown
from winnow.evidence.metrics import CELL, COST_COLUMNS, check_metrics, per_seed


def cost_table(metrics: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Return the median cost over seeds of each (suite, arm, dataset, fraction, length).

    Every seed of a cell counts once, however many metric rows repeat its cost. Columns: the keys, device, the
    cost columns (seconds, GB, bytes), total_cpu_s (selection + training + evaluation) and relative_total:
    processor time over that of the `reference` arm (full data) on the same dataset. The reference is taken at
    the same length, or at its only one. Times on different devices do not compare: NaN there.
    Raises `UserError` for a broken table and where the reference has no result.
    """
    seeds = per_seed(check_metrics(metrics))
    parts = ["selection_cpu_s", "training_cpu_s", "evaluation_cpu_s"]
    seeds["total_cpu_s"] = seeds[parts].sum(axis=1, skipna=False)
    groups = seeds.groupby(list(CELL))
    table = groups[[*COST_COLUMNS, "total_cpu_s"]].median()
    table.insert(0, "device", groups["device"].agg(lambda names: ", ".join(sorted(set(names)))))
    return _relative(table.reset_index(), reference)


def pareto(table: pd.DataFrame, cost: str, value: str) -> pd.Series[bool]:
    """Return, on the table's index, which rows are not dominated: low `cost`, high `value`.

    A row is dominated if another is no worse in both and better in one; equal rows stand or fall together.
    Rows where either is missing are not on the frontier. O(n log n).
    """
    known = table[[cost, value]].dropna()
    best = known.groupby(cost)[value].max().sort_index()
    cheaper = best.cummax().shift(fill_value=-np.inf)
    frontier = best[best > cheaper]
    on_it = known[value] == known[cost].map(frontier)
    return on_it.reindex(table.index, fill_value=False)


def _relative(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    full = table[table["arm"] == reference]
    if full.empty:
        raise unknown("reference arm", reference, table["arm"].unique(), "metrics")
    rows = [_reference_row(full, cell, reference) for cell in table[list(CELL)].itertuples(index=False)]
    base = table.loc[rows].reset_index(drop=True)
    comparable = (table["device"] == base["device"]) & (base["total_cpu_s"] > 0)
    return table.assign(relative_total=(table["total_cpu_s"] / base["total_cpu_s"]).where(comparable))


def _reference_row(full: pd.DataFrame, cell: tuple[object, ...], reference: str) -> int:
    suite, _, dataset, _, length = cell
    rows = full[(full["suite"] == suite) & (full["dataset"] == dataset)]
    if len(rows) > 1:
        rows = rows[rows["length"] == length]
    if len(rows) != 1:
        raise UserError(
            f"metrics: reference arm '{reference}' has {len(rows)} cells for suite {suite},"
            f" dataset {dataset}, length {length}; exactly one is needed. Run it, or name another reference."
        )
    return int(rows.index[0])
