"""Accuracy against total cost, selection included: the twin of accuracy against fraction."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from winnow.figures import layout
from winnow.figures.style import arm_styles, styled
from winnow.figures.units import metric_label

TABLE = "summary"
TITLE = "Accuracy against total cost"
CAPTION = (
    "The same cells against their median cost per repetition, selection included; a line joins one arm's "
    "shares from small to large. The pale line is the front: nothing cheaper is as good; "
    "the numbers are the shares kept."
)


@styled
def draw(
    table: pd.DataFrame,
    arms: dict[str, dict[str, Any]],
    metric: str = "test_accuracy",
    length: str | None = None,
    cost: str = "total_cpu_s",
    only: list[str] | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Draw a metric's mean and interval per arm against its cost (log axis), with the Pareto front.

    Args:
        table: summary rows with their cost columns (`layout.join_cost`), seconds per repetition.
        arms: all arms of the suite, name -> {label, role}, in the suite's order.
        metric: which metric to draw.
        length: "epochs" or "steps" for one of them alone; None draws a row of panels for each.
        cost: the cost column on the horizontal axis.
        only: the arms to draw; None draws all.

    Returns:
        The figure and the rows it shows.
    """
    rows = layout.choose(table, arms, metric, length, keep=layout.cost_column(table, cost), only=only)
    styles = arm_styles(arms)
    figure, axes = layout.panel_grid(layout.panel_keys(rows, arms))
    fronts = []
    for (dataset, kind), axis in axes.items():
        here = layout.in_panel(rows, arms, dataset, kind).reset_index(drop=True)
        x = here[cost] / layout.cost_axis(axis, cost, rows.loc[rows["dataset"] == dataset, cost])
        for arm in (arm for arm in styles if arm in set(here["arm"])):
            part = here[here["arm"] == arm].sort_values("fraction")
            layout.points(axis, x[part.index], part, metric, styles[arm])
        fronts.append((axis, here, x))
        if axis.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axis.set_ylabel(metric_label(metric))
    layout.same_y(axes)
    for axis, here, x in fronts:
        layout.draw_front(axis, here, x, metric)
    layout.legend(figure, rows, styles, with_front=True)
    return figure, rows
