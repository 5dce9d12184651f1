"""Every arm against one baseline, cell by cell, by the paired differences of equal seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from winnow.errors import UserError, unknown
from winnow.evidence.metrics import AXES, CELL, check_metrics, values_of
from winnow.evidence.paired import compare


def differences(
    metrics: pd.DataFrame, metric: str, baseline: str, matched: Sequence[str] = AXES
) -> pd.DataFrame:
    """Return one row per cell of every arm but the baseline, where the baseline has a result too.

    Columns: suite, arm, dataset, fraction, length, n_seeds, difference (mean of arm - baseline over seeds),
    low and high (its 95 % interval; NaN below 3 seeds).

    Args:
        metrics: the long table, one row per cell, seed and metric.
        metric: a metric, or a cost column by its name.
        baseline: the arm that all others are compared with.
        matched: axes on which the baseline's cell equals the arm's. Full data has one cell per dataset, so
            it is matched on the dataset alone.

    Raises:
        UserError: an unknown baseline, seeds that only one of two arms has, several matching cells.
    """
    values = values_of(check_metrics(metrics), metric)
    base = values[values["arm"] == baseline]
    if base.empty:
        raise unknown("baseline", baseline, values["arm"].unique(), f"differences of {metric}")
    keys = ["suite", *matched]
    cells = dict(iter(base.groupby(keys)))
    rows = []
    for place, arm in values[values["arm"] != baseline].groupby(list(CELL)):
        cell = dict(zip(CELL, place, strict=True))
        other = cells.get(tuple(cell[key] for key in keys))
        if other is not None:
            rows.append(cell | _difference(cell, arm, other))
    return pd.DataFrame(rows, columns=[*CELL, "n_seeds", "difference", "low", "high"])


def _difference(cell: dict[str, object], arm: pd.DataFrame, other: pd.DataFrame) -> dict[str, object]:
    a, b = arm.set_index("seed")["value"], other.set_index("seed")["value"]
    try:
        found = compare(a, b, margin=0.0, alternative="greater")
    except UserError as error:
        where = ", ".join(f"{key}={value}" for key, value in cell.items())
        raise UserError(f"difference to '{other['arm'].iloc[0]}' at {where}: {error}") from error
    low, high = (np.nan if end is None else end for end in (found.ci_low, found.ci_high))
    return {"n_seeds": found.n, "difference": found.effect, "low": low, "high": high}
