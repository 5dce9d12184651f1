"""Paired differences of every arm to a baseline, with their intervals: for effects that means hide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from winnow.figures import layout
from winnow.figures.style import METHOD_MARKERS, ArmStyle, arm_styles, styled
from winnow.figures.units import display_scale, is_share, metric_label, percent

TABLE = "values"
TITLE = "Differences to the baseline"
CAPTION = (
    "Mean over seeds of the difference to the baseline, seed by seed, with its 95 % interval (paired t, not "
    "corrected for the number of arms; none below 3 seeds). An interval that crosses the line at zero "
    "decides nothing."
)
HEAD, ROW, STEP = 0.75, 0.16, 0.1  # inches: around a panel, per arm, per share of an arm


@styled
def draw(
    table: pd.DataFrame,
    arms: dict[str, dict[str, Any]],
    metric: str = "test_accuracy",
    length: str | None = None,
    baseline: str | None = None,
    only: list[str] | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Draw dots with whiskers, one panel per dataset and training length, one line of it per arm.

    Args:
        table: one row per cell, seed and metric.
        arms: all arms of the suite, name -> {label, role}, in the suite's order.
        metric: which metric to compare.
        length: "epochs" or "steps" for one of them alone; None draws a row of panels for each.
        baseline: the arm that the others are compared with in the same cell; None takes the suite's first
            control. Full data, which has one cell, is compared with at every share and length.
        only: the arms to draw; None draws all.

    Returns:
        The figure and the rows it shows: difference, low and high per cell, in stored units.
    """
    base = layout.baseline_of(arms, baseline)
    rows = layout.gaps(table, arms, metric, base, length, only)
    styles = arm_styles(arms)
    keys = layout.panel_keys(rows, {arm: {} for arm in arms})
    shown = [arm for arm in arms if arm in set(rows["arm"])]
    fractions = sorted(rows["fraction"].unique())
    figure, axes = layout.panel_grid(keys)
    n_lines = len({axis.get_subplotspec().rowspan.start for axis in axes.values()})  # type: ignore[union-attr]
    tall = HEAD + len(shown) * (ROW + STEP * (len(fractions) - 1))
    figure.set_size_inches(figure.get_figwidth() + 1.2, n_lines * tall)
    unit = " (points)" if is_share(metric) else ""
    for (dataset, kind), axis in axes.items():
        here = rows[(rows["dataset"] == dataset) & (rows["length"] == kind)]
        _panel(axis, here, shown, fractions, metric, styles)
        axis.set_xlabel(f"{metric_label(metric)} minus {styles[base].label}{unit}")
        if not axis.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axis.tick_params(labelleft=False)
    if len(fractions) > 1:
        _legend(figure, fractions)
    return figure, rows


def _panel(
    axis: Axes,
    rows: pd.DataFrame,
    shown: Sequence[str],
    fractions: Sequence[float],
    metric: str,
    styles: Mapping[str, ArmStyle],
) -> None:
    axis.axvline(0, color="#444444", linewidth=0.8, zorder=1)
    for row in rows.to_dict("records"):
        share = fractions.index(row["fraction"])
        place = shown.index(row["arm"]) + 0.6 * ((share + 0.5) / len(fractions) - 0.5)
        look = styles[row["arm"]].marker_options() | {"marker": METHOD_MARKERS[share % len(METHOD_MARKERS)]}
        layout.dot(axis, place, row, layout.GAPS, display_scale(metric), **look)
    layout.arm_rows(axis, [styles[arm].label for arm in shown])


def _legend(figure: Figure, fractions: Sequence[float]) -> None:
    handles = [
        Line2D([], [], color="#444444", marker=METHOD_MARKERS[i % len(METHOD_MARKERS)], linestyle="none")
        for i in range(len(fractions))
    ]
    labels = [f"{percent(share)} kept" for share in fractions]
    figure.set_figheight(figure.get_figheight() + 0.3)
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 7))
