"""Paired differences of every arm to a baseline, with their intervals: for effects that means hide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from winnow.figures import layout
from winnow.figures.gaps import gaps_to
from winnow.figures.style import METHOD_MARKERS, ArmStyle, arm_styles, styled
from winnow.figures.units import difference_label, display_scale, percent

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
    base = layout.baseline_of(table, arms, baseline)
    rows = gaps_to(table, arms, metric, base, length, only)
    styles = arm_styles(arms)
    fractions = sorted(rows["fraction"].unique())
    figure, axes = layout.panel_grid(layout.panel_keys(rows, {arm: {} for arm in arms}))
    panels = {key: rows[(rows["dataset"] == key[0]) & (rows["length"] == key[1])] for key in axes}
    shown = _arms_by_line(axes, panels, list(arms))
    for key, axis in axes.items():
        place = axis.get_subplotspec()
        assert place is not None
        _panel(axis, panels[key], shown[place.rowspan.start], fractions, metric, styles)
        axis.set_xlabel(difference_label(metric, styles[base].label))
        axis.tick_params(labelleft=place.is_first_col())
    heights = [HEAD + len(line) * (ROW + STEP * (len(fractions) - 1)) for line in shown]
    figure.axes[0].get_gridspec().set_height_ratios(heights)  # type: ignore[union-attr]
    figure.set_size_inches(figure.get_figwidth() + 1.2, sum(heights))
    if len(fractions) > 1:
        _legend(figure, fractions)
    return figure, rows


def _arms_by_line(
    axes: Mapping[tuple[str, str], Axes], panels: Mapping[tuple[str, str], pd.DataFrame], order: list[str]
) -> list[list[str]]:
    """Return for each line of panels the arms that any of them shows: they share the names at the left."""
    present: dict[int, set[str]] = {}
    for key, axis in axes.items():
        place = axis.get_subplotspec()
        assert place is not None
        present.setdefault(place.rowspan.start, set()).update(panels[key]["arm"])
    return [[arm for arm in order if arm in found] for _, found in sorted(present.items())]


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
