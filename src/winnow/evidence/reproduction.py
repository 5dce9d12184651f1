"""The reproduction table: each published number beside ours, with interval, command and status."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from winnow.errors import UserError
from winnow.evidence.paired import MIN_SEEDS
from winnow.plan.claims import ReproductionEntry

COLUMNS = (
    "dataset",
    "arm",
    "fraction",
    "length",
    "metric",
    "paper_value",
    "source",
    "mark",
    "ours",
    "ci_low",
    "ci_high",
    "n_seeds",
    "command",
    "status",
    "reason",
)


def reproduction_table(
    entries: Sequence[ReproductionEntry], summary: pd.DataFrame, scale: str, command: str
) -> pd.DataFrame:
    """Return one row per published number.

    `summary` is `winnow.evidence.paired.summary` of one suite run at `scale`; `command` runs that suite at
    the paper's scale. Status: "reproduced" if the paper's value lies inside our 95 % interval at the paper's
    own scale, "differs" if it lies outside, "cannot be run here" if the entry names an obstacle and there is
    no result, else "not run". Results at another scale do not count, and fewer than 3 seeds decide nothing;
    the column `reason` says so. Raises `UserError` if several rows of the summary answer to one entry.
    """
    rows = [_row(entry, summary, scale) | {"command": command} for entry in entries]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(entry: ReproductionEntry, summary: pd.DataFrame, scale: str) -> dict[str, object]:
    row: dict[str, object] = entry.model_dump(exclude={"made_at", "obstacle"})
    row |= {"ours": np.nan, "ci_low": np.nan, "ci_high": np.nan, "n_seeds": 0}
    found = _matching(entry, summary)
    if entry.made_at != scale or found.empty:
        if entry.obstacle is not None:
            return row | {"status": "cannot be run here", "reason": entry.obstacle}
        wrong_scale = f"results are at the {scale} scale, the paper's value at the {entry.made_at} scale"
        reason = wrong_scale if entry.made_at != scale else "no result for this cell"
        return row | {"status": "not run", "reason": reason}
    ours = found.iloc[0]
    row |= {"ours": float(ours["mean"]), "n_seeds": int(ours["n_seeds"])}
    row |= {"ci_low": float(ours["ci_low"]), "ci_high": float(ours["ci_high"])}
    if ours["n_seeds"] < MIN_SEEDS:
        reason = f"too few seeds ({ours['n_seeds']}; at least {MIN_SEEDS} are needed)"
        return row | {"status": "not run", "reason": reason}
    inside = ours["ci_low"] <= entry.paper_value <= ours["ci_high"]
    side = "inside" if inside else "outside"
    reason = f"the paper's value lies {side} our interval of {ours['n_seeds']} seeds"
    return row | {"status": "reproduced" if inside else "differs", "reason": reason}


def _matching(entry: ReproductionEntry, summary: pd.DataFrame) -> pd.DataFrame:
    chosen = np.isclose(summary["fraction"], entry.fraction, atol=1e-6)
    for name in ("dataset", "arm", "length", "metric"):
        chosen &= (summary[name] == getattr(entry, name)).to_numpy()
    found = summary[chosen]
    if len(found) > 1:
        raise UserError(
            f"reproduction: {len(found)} rows of the summary match {entry.arm} on {entry.dataset},"
            f" fraction {entry.fraction:g}, {entry.metric}. Give the summary of one suite."
        )
    return found
