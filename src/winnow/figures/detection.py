"""How well each score finds wrong labels: precision against recall, and average precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from winnow.errors import unknown
from winnow.figures import layout
from winnow.figures.style import ArmStyle, arm_styles, styled
from winnow.figures.units import display_scale, length_label, metric_label

TABLE = "summary"
TITLE = "Finding wrong labels"
CAPTION = (
    "Left: of the examples that a score flags until it has found this share of the wrong labels, the share "
    "that is wrong. Right: the same as one number, average precision. Means over seeds with their 95 % "
    "intervals; the dotted lines are the share of wrong labels in the pool, which a random order finds."
)
CURVE = "noise_precision_at_recall_"
AVERAGE = "noise_average_precision"
BASE = "noise_share"


@styled
def draw(
    table: pd.DataFrame,
    arms: dict[str, dict[str, Any]],
    length: str | None = None,
    fraction: float | None = None,
    only: list[str] | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Draw two panels per dataset and training length: the curve of each arm, and its average precision.

    Args:
        table: summary rows of the protocol `noise_detection`; arms without a full ranking are left out.
        arms: all arms of the suite, name -> {label, role}, in the suite's order.
        length: "epochs" or "steps" for one of them alone; None draws both.
        fraction: the share kept whose detection is drawn; None draws the largest of each arm.
        only: the arms to draw; None draws all.

    Returns:
        The figure and the rows it shows.
    """
    names = sorted(name for name in table["metric"].unique() if name.startswith(CURVE))
    parts = [layout.choose(table, arms, name, length, only=only) for name in (AVERAGE, *names, BASE)]
    rows = pd.concat(parts, ignore_index=True)
    rows = _one_share(rows[rows["arm"].isin(parts[0]["arm"])], fraction)
    styles = arm_styles(arms)
    keys = layout.panel_keys(rows, arms)
    shown = [arm for arm in arms if arm in set(rows["arm"])]
    titles = [
        [f"{dataset}, {length_label(kind)}: {what}" for what in ("curve", "average")]
        for dataset, kind in keys
    ]
    figure, axes = layout.grid(titles)
    figure.set_size_inches(figure.get_figwidth() + 1.6, len(keys) * max(2.6, 0.7 + 0.17 * len(shown)))
    for (dataset, kind), curve, average in zip(keys, axes[::2], axes[1::2], strict=True):
        here = rows[(rows["dataset"] == dataset) & (rows["length"] == kind)]
        _curves(curve, here[here["metric"].isin(names)], shown, styles)
        _averages(average, here[here["metric"] == AVERAGE], shown, styles)
        base = display_scale(BASE) * here.loc[here["metric"] == BASE, "mean"].mean()
        curve.axhline(base, color="#444444", linestyle=":", linewidth=1)
        average.axvline(base, color="#444444", linestyle=":", linewidth=1)
    layout.legend(figure, rows, styles)
    return figure, rows


def _one_share(rows: pd.DataFrame, fraction: float | None) -> pd.DataFrame:
    """Return the rows of one share kept: the one asked for, or the largest of each arm in its panel."""
    if fraction is not None:
        kept = rows[np.isclose(rows["fraction"], fraction)]
        if kept.empty:
            raise unknown("fraction", fraction, sorted(rows["fraction"].unique()), "figure")
        return kept
    largest = rows.groupby(["suite", "dataset", "length", "arm"])["fraction"].transform("max")
    return rows[rows["fraction"] == largest].reset_index(drop=True)


def _curves(axis: Axes, rows: pd.DataFrame, shown: Sequence[str], styles: Mapping[str, ArmStyle]) -> None:
    for arm in shown:
        part = rows[rows["arm"] == arm]
        recall = part["metric"].str.removeprefix(CURVE).astype(float).sort_values()
        layout.points(axis, 100 * recall, part.loc[recall.index], AVERAGE, styles[arm], markevery=2)
    axis.set(xlabel="recall: wrong labels found (%)", ylabel="precision (%)")


def _averages(axis: Axes, rows: pd.DataFrame, shown: Sequence[str], styles: Mapping[str, ArmStyle]) -> None:
    for row in rows.to_dict("records"):
        look = styles[row["arm"]].marker_options()
        layout.dot(axis, shown.index(row["arm"]), row, layout.MEANS, display_scale(AVERAGE), **look)
    layout.arm_rows(axis, [styles[arm].label for arm in shown])
    axis.set_xlabel(metric_label(AVERAGE).replace("noise ", ""))
