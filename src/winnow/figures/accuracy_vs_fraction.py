"""Accuracy against the share of training examples kept, one panel per dataset and training length."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from winnow.figures import layout
from winnow.figures.style import ArmStyle, arm_styles, styled
from winnow.figures.units import display_scale, metric_label

TABLE = "summary"
TITLE = "Accuracy against share kept"
CAPTION = (
    "Mean over seeds with its 95 % interval; arms are set slightly apart so that the intervals can be told "
    "apart. The horizontal line with its band is the reference trained on all examples."
)


@styled
def draw(
    table: pd.DataFrame,
    arms: dict[str, dict[str, Any]],
    metric: str = "test_accuracy",
    length: str | None = None,
    only: list[str] | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Draw a metric's mean and interval per arm against the fraction kept.

    Args:
        table: summary rows (suite, arm, dataset, fraction, length, metric, n_seeds, mean, ci_low, ci_high).
        arms: all arms of the suite, name -> {label, role}, in the suite's order.
        metric: which metric to draw.
        length: "epochs" or "steps" for one of them alone; None draws a row of panels for each.
        only: the arms to draw; None draws all.

    Returns:
        The figure and the rows it shows.
    """
    rows = layout.choose(table, arms, metric, length, only=only)
    styles = arm_styles(arms)
    levels = {str(arm) for arm, part in rows.groupby("arm") if _is_level(part, styles[str(arm)])}
    figure, axes = layout.panel_grid(layout.panel_keys(rows, arms))
    for (dataset, kind), axis in axes.items():
        _panel(axis, layout.in_panel(rows, arms, dataset, kind), metric, styles, levels)
        if axis.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axis.set_ylabel(metric_label(metric))
    layout.same_y(axes)
    layout.legend(figure, rows, styles, levels=levels)
    return figure, rows


def _panel(
    axis: Axes, rows: pd.DataFrame, metric: str, styles: Mapping[str, ArmStyle], levels: Set[str]
) -> None:
    present = set(rows["arm"])
    curves = [arm for arm in styles if arm in present - levels]
    shown = rows[rows["arm"].isin(curves)] if curves else rows
    step = layout.fraction_axis(axis, shown["fraction"], len(curves))
    for place, arm in enumerate(curves):
        part = rows[rows["arm"] == arm].sort_values("fraction")
        shift = step * (place - (len(curves) - 1) / 2)
        fraction = part["fraction"].to_numpy(float)
        x = fraction * np.exp(shift) if axis.get_xscale() == "log" else fraction + shift
        layout.points(axis, x, part, metric, styles[arm])
    for arm in (arm for arm in styles if arm in present & levels):
        _level(axis, rows[rows["arm"] == arm].iloc[0], metric, styles[arm])


def _is_level(rows: pd.DataFrame, style: ArmStyle) -> bool:
    return style.role == "reference" and bool((rows["fraction"] == 1.0).all())


def _level(axis: Axes, row: pd.Series, metric: str, style: ArmStyle) -> None:
    factor = display_scale(metric)
    axis.axhline(factor * row["mean"], color=style.color, linestyle=style.line, linewidth=1.1, zorder=2)
    if pd.notna(row["ci_low"]) and pd.notna(row["ci_high"]):
        axis.axhspan(
            factor * row["ci_low"],
            factor * row["ci_high"],
            color=style.color,
            alpha=0.08,
            linewidth=0,
            zorder=1,
        )
