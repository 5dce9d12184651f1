"""Several metrics of every arm side by side, a panel each, one line per arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from winnow.figures import layout
from winnow.figures.style import ArmStyle, arm_styles, styled
from winnow.figures.units import display_scale, length_label, metric_label, percent

TABLE = "summary"
TITLE = "Metrics side by side"
CAPTION = (
    "Mean over seeds with its 95 % interval. A vertical line is where a metric says that nothing is gained "
    "or lost. Panels of one metric share its range."
)
WIDTH, HEAD, ROW = 1.9, 0.75, 0.17  # inches: a panel, around it, per arm


@styled
def draw(
    table: pd.DataFrame,
    arms: dict[str, dict[str, Any]],
    metrics: dict[str, str] | None = None,
    neutral: dict[str, float] | None = None,
    only: list[str] | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Draw dots with whiskers: a column of panels per metric, a row per dataset, share and length.

    Args:
        table: one row per cell and metric, with its mean and interval.
        arms: all arms of the suite, name -> {label, role}, in the suite's order.
        metrics: the metrics -> their names on the axis; None draws test_accuracy.
        neutral: metric -> the value at which a line is drawn, as it is stored.
        only: the arms to draw; None draws all that have the metric.

    Returns:
        The figure and the rows it shows.
    """
    names = metrics or {"test_accuracy": ""}
    rows = pd.concat([layout.choose(table, arms, name, None, only=only) for name in names], ignore_index=True)
    parts = {
        (str(length), str(dataset), float(str(fraction))): part
        for (length, dataset, fraction), part in rows.groupby(["length", "dataset", "fraction"])
    }
    lines = sorted(parts, key=lambda line: [layout.natural(part) for part in line])
    cells = [parts[line] for line in lines]
    shown = [[arm for arm in arms if arm in set(cell["arm"])] for cell in cells]
    heights = [HEAD + ROW * len(part) for part in shown]
    figure = Figure(
        figsize=(WIDTH * len(names) + 1.2, sum(heights)), layout=ConstrainedLayoutEngine(w_pad=0.06)
    )
    axes = figure.subplots(len(lines), len(names), sharex="col", squeeze=False, height_ratios=heights)
    styles = arm_styles(arms)
    for line, cell, part, across in zip(lines, cells, shown, axes, strict=True):
        length, dataset, fraction = line
        across[0].set_title(f"{dataset}, {length_label(length)}, {percent(fraction)} kept")
        for place, (metric, axis) in enumerate(zip(names, across, strict=True)):
            _panel(axis, cell[cell["metric"] == metric], part, metric, (neutral or {}).get(metric), styles)
            axis.tick_params(labelleft=place == 0, labelbottom=True)
            axis.set_xlabel(names[metric] or metric_label(metric))
    return figure, rows


def _panel(
    axis: Axes,
    rows: pd.DataFrame,
    shown: Sequence[str],
    metric: str,
    neutral: float | None,
    styles: Mapping[str, ArmStyle],
) -> None:
    if neutral is not None:
        axis.axvline(neutral * display_scale(metric), color="#444444", linewidth=0.8, zorder=1)
    for row in rows.to_dict("records"):
        look = styles[row["arm"]].marker_options()
        layout.dot(axis, shown.index(row["arm"]), row, layout.MEANS, display_scale(metric), **look)
    layout.arm_rows(axis, [styles[arm].label for arm in shown])
