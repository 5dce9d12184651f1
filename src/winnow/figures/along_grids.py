"""A metric against a setting in which the grids of a suite differ, one panel per sweep and metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from winnow.errors import UserError, one_of
from winnow.figures import layout
from winnow.figures.style import ArmStyle, arm_styles, styled
from winnow.figures.units import is_share, metric_label

TABLE = "summary"
TITLE = "Along a setting of the data"
CAPTION = (
    "Mean over seeds with its 95 % interval; arms are set slightly apart so that the intervals can be told "
    "apart. Each point of a panel is a dataset of its own, which differs from its neighbours in one setting."
)


@styled
def draw(
    table: pd.DataFrame,
    arms: dict[str, dict[str, Any]],
    sweeps: dict[str, dict[str, float | str]] | None = None,
    metrics: dict[str, str] | None = None,
    error: bool = False,
    only: list[str] | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Draw metrics against the values that a suite's grids stand for.

    Args:
        table: summary rows (suite, arm, dataset, fraction, length, metric, n_seeds, mean, ci_low, ci_high),
            each arm at one share and length.
        arms: all arms of the suite, name -> {label, role}, in the suite's order.
        sweeps: name of a setting -> grid -> the value it stands for, numbers or, set one after another,
            names. Each is a column of panels; sweeps of which the table has fewer than two grids are left
            out, and of a sweep the arms with a single grid.
        metrics: the metrics to draw -> their names on the axis; a row of panels each. None draws
            test_accuracy.
        error: whether to draw 1 - metric, for an accuracy.
        only: the arms to draw; None draws all.

    Returns:
        The figure and the rows it shows, with the columns `setting` and `at`; errors in place of the metrics
        where they are drawn.

    Raises:
        UserError: no sweep has two grids, or an arm has several shares or lengths in one grid.
    """
    present = set(table["dataset"])
    drawn = {name: grids for name, grids in (sweeps or {}).items() if len(present & set(grids)) > 1}
    if not drawn:
        raise UserError(f"figure 'along_grids': sweeps: none has two of the grids {one_of(present)}.")
    names = metrics or {"test_accuracy": ""}
    rows = pd.concat([_rows(table, arms, metric, drawn, error, only) for metric in names], ignore_index=True)
    styles = arm_styles(arms)
    keys = [(metric, setting) for metric in names for setting in drawn]
    figure, axes = layout.grid([list(drawn) for _ in names])
    panels = dict(zip(keys, axes, strict=True))
    for (metric, setting), axis in panels.items():
        part = rows[(rows["metric"] == metric) & (rows["setting"] == setting)]
        _panel(axis, part, metric, styles, _places(drawn[setting]))
        axis.set(title="", xlabel=setting)
        if setting == next(iter(drawn)):
            axis.set_ylabel(_label(metric, names[metric], error))
    layout.same_y(panels)
    layout.legend(figure, rows, styles)
    return figure, rows


def _label(metric: str, name: str, error: bool) -> str:
    if not name:
        return f"1 - {metric_label(metric)}" if error else metric_label(metric)
    return f"{name} (%)" if is_share(metric) else name


def _rows(
    table: pd.DataFrame,
    arms: Mapping[str, Any],
    metric: str,
    sweeps: Mapping[str, Mapping[str, float | str]],
    error: bool,
    only: list[str] | None,
) -> pd.DataFrame:
    """Return a metric's rows once for every sweep of which their arm has more than one grid."""
    swept = {grid for grids in sweeps.values() for grid in grids}
    rows = layout.choose(table[table["dataset"].isin(swept)], arms, metric, None, only=only)
    twice = rows[rows.duplicated(["arm", "dataset"])]
    if len(twice):
        raise UserError(
            f"figure 'along_grids': arm '{twice['arm'].iloc[0]}' has several shares or lengths in"
            f" '{twice['dataset'].iloc[0]}'. Name the arms to draw in `only`."
        )
    if error:
        ends = {"mean": 1 - rows["mean"], "ci_low": 1 - rows["ci_high"], "ci_high": 1 - rows["ci_low"]}
        rows = rows.assign(**ends)
    parts = [
        rows[rows["dataset"].isin(grids)].assign(setting=name, at=rows["dataset"].map(grids))
        for name, grids in sweeps.items()
    ]
    return pd.concat([part[part.groupby("arm")["at"].transform("size") > 1] for part in parts])


def _places(values: Mapping[str, float | str]) -> dict[float | str, float]:
    """Return where on the axis the values of a sweep are."""
    listed = list(dict.fromkeys(values.values()))
    if any(isinstance(value, str) for value in listed):
        return {value: float(place) for place, value in enumerate(listed)}
    return {value: float(value) for value in listed}


def _panel(
    axis: Axes,
    rows: pd.DataFrame,
    metric: str,
    styles: Mapping[str, ArmStyle],
    places: Mapping[float | str, float],
) -> None:
    present = [arm for arm in styles if arm in set(rows["arm"])]
    shown = sorted(rows["at"].unique(), key=places.__getitem__)
    ticks = np.array([places[value] for value in shown])
    step = min(0.016 * float(np.ptp(ticks)), 0.5 * float(np.diff(ticks).min()) / len(present))
    for place, arm in enumerate(present):
        part = rows[rows["arm"] == arm].sort_values("at", key=lambda at: at.map(places))
        x = part["at"].map(places).to_numpy(float) + step * (place - (len(present) - 1) / 2)
        layout.points(axis, x, part, metric, styles[arm])
    axis.set_xticks(ticks, [value if isinstance(value, str) else f"{value:g}" for value in shown])
