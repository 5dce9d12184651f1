"""What the figures share: choosing rows, a grid of panels, error bars, the Pareto front, legend."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from winnow.errors import UserError, unknown
from winnow.figures.style import FRONT_COLOR, ArmStyle
from winnow.figures.units import display_scale, length_label, percent

CELL = ["suite", "arm", "dataset", "fraction", "length"]
COLUMNS = [
    "suite",
    "dataset",
    "length",
    "arm",
    "label",
    "fraction",
    "metric",
    "n_seeds",
]
MEANS = ("mean", "ci_low", "ci_high")
GAPS = ("difference", "low", "high")
COSTS = {
    "total_cpu_s": "processor time, selection included",
    "total_wall_s": "wall time, selection included",
    "selection_wall_s": "cost of selection",
    "training_wall_s": "cost of training",
}
MAX_COLUMNS = 3
PANEL = (3.1, 2.45)
SINGLE = (5.0, 3.1)
LABEL = (0.42, 0.14)  # inches that a label of the front takes


def join_cost(summary: pd.DataFrame, cost: pd.DataFrame) -> pd.DataFrame:
    """Add the cost columns to the summary table; every cell of the summary must have its cost.

    Args:
        summary: one row per (suite, arm, ..., dataset, fraction, length, metric).
        cost: one row per (suite, arm, dataset, fraction, length), times in seconds per repetition.

    Raises:
        UserError: a cell has no cost.
    """
    joined = summary.merge(cost, on=CELL, how="left", validate="many_to_one", indicator=True)
    lost = joined[joined["_merge"] == "left_only"]
    if len(lost):
        row = lost.iloc[0]
        cell = ", ".join(f"{key}={row[key]}" for key in CELL)
        raise UserError(f"cost table: no row for {cell} ({len(lost)} missing). Run its stages again.")
    return joined.drop(columns="_merge")


def choose(
    table: pd.DataFrame,
    arms: Mapping[str, Any],
    metric: str,
    length: str | None,
    keep: Iterable[str] = (),
    only: Sequence[str] | None = None,
    shown: Sequence[str] = MEANS,
) -> pd.DataFrame:
    """Return the rows of one metric (and one training length), in a fixed order, with each arm's label.

    Args:
        keep: further columns of the table to return.
        only: the arms to return; None returns all.
        shown: the columns that hold the numbers.

    Raises:
        UserError: the metric, the length or an arm is not known.
    """
    rows = of_metric(table, metric)
    for arm in (*rows["arm"].unique(), *(only or ())):
        if arm not in arms:
            raise unknown("arm", arm, arms, "figure")
    if only is not None:
        rows = rows[rows["arm"].isin(only)]
    lengths = rows["length"].unique()
    if length is not None:
        if length not in lengths:
            raise unknown("length", length, lengths, "figure")
        rows = rows[(rows["length"] == length) | rows["arm"].map(lambda arm: is_reference(arms, arm))]
    rows = rows.assign(
        label=rows["arm"].map(lambda arm: arms[arm].get("label", arm)),
        _order=rows["arm"].map(list(arms).index),
    )
    keys = ["dataset", "length", "_order", "fraction", "suite"]
    rows = rows.sort_values(keys, kind="stable", key=lambda column: column.map(natural))
    return rows[[*COLUMNS, *shown, *keep]].reset_index(drop=True)


def baseline_of(table: pd.DataFrame, arms: Mapping[str, Any], baseline: str | None) -> str:
    """Return the arm that others are compared with: the one named, else the table's first control.

    A table without controls is compared with its reference.

    Raises:
        UserError: the baseline is not an arm of the table.
    """
    present = [arm for arm in arms if arm in set(table["arm"])]
    if baseline is None:
        controls = [arm for arm in present if arms[arm].get("role") == "control"]
        return (controls or [arm for arm in present if is_reference(arms, arm)] or present)[0]
    if baseline not in present:
        raise unknown("baseline", baseline, present, "figure")
    return baseline


def of_metric(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rows of one metric.

    Raises:
        UserError: the table has no such metric.
    """
    metrics = table["metric"].unique()
    if metric not in metrics:
        raise unknown("metric", metric, metrics, "figure")
    return table[table["metric"] == metric]


def natural(name: Any) -> Any:
    """Return a sort key that orders names by the numbers in them: `digits_500` before `digits_1000`."""
    return re.sub(r"\d+", lambda found: found[0].zfill(12), name) if isinstance(name, str) else name


def is_reference(arms: Mapping[str, Any], arm: str) -> bool:
    """Return whether an arm is a reference (full data) and not a method or a control."""
    return bool(arms[arm].get("role") == "reference")


def panel_keys(rows: pd.DataFrame, arms: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the (dataset, length) pairs that get a panel: by length, then by dataset.

    Full data at equal epochs and at equal steps are the same run, so a reference is drawn in every panel of
    its dataset and asks for none of its own.
    """
    drawn = rows[~rows["arm"].map(lambda arm: is_reference(arms, arm))]
    pairs = (drawn if len(drawn) else rows)[["length", "dataset"]].drop_duplicates()
    pairs = pairs.sort_values(["length", "dataset"], key=lambda column: column.map(natural))
    return list(zip(pairs["dataset"].astype(str), pairs["length"].astype(str), strict=True))


def in_panel(rows: pd.DataFrame, arms: Mapping[str, Any], dataset: str, length: str) -> pd.DataFrame:
    """Return the rows of one panel: its dataset and length, and its dataset's references."""
    here = rows[rows["dataset"] == dataset]
    own = here[here["length"] == length]
    away = here[(here["length"] != length) & here["arm"].map(lambda arm: is_reference(arms, arm))]
    away = away[~away["arm"].isin(own["arm"])].drop_duplicates(["suite", "arm", "fraction"])
    return pd.concat([own, away])


def grid(rows: list[list[str]]) -> tuple[Figure, list[Axes]]:
    """Make a figure with one titled panel per name; each list starts a new row, at most three panels wide."""
    longest = max(len(row) for row in rows)
    columns = math.ceil(longest / math.ceil(longest / MAX_COLUMNS))
    wrapped = [row[i : i + columns] for row in rows for i in range(0, len(row), columns)]
    one = len(wrapped) == columns == 1
    width, height = SINGLE if one else (PANEL[0] * max(columns, 1.6), PANEL[1] * len(wrapped))
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))
    axes = []
    for i, row in enumerate(wrapped):
        for j, name in enumerate(row):
            axis = figure.add_subplot(len(wrapped), columns, i * columns + j + 1)
            axis.set_title(name)
            axes.append(axis)
    return figure, axes


def panel_grid(keys: list[tuple[str, str]]) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """Make one panel per (dataset, length), a new row for every length; one dataset alone takes one row."""
    lengths = list(dict.fromkeys(length for _, length in keys))
    by_row = [[key for key in keys if key[1] == length] for length in lengths]
    if len({dataset for dataset, _ in keys}) == 1:
        by_row = [keys]
    figure, axes = grid([[f"{dataset}, {length_label(length)}" for dataset, length in row] for row in by_row])
    return figure, dict(zip([key for row in by_row for key in row], axes, strict=True))


def points(
    axis: Axes, x: Any, rows: pd.DataFrame, metric: str, style: ArmStyle, line: bool = True, **options: Any
) -> None:
    """Draw one arm's means with their intervals; a mean without an interval (one seed) is a marker alone."""
    factor = display_scale(metric)
    mean = rows["mean"].to_numpy(float) * factor
    low, high = (rows[name].to_numpy(float) * factor for name in ("ci_low", "ci_high"))
    bars = np.nan_to_num(np.vstack([mean - low, high - mean]), nan=0.0).clip(min=0)
    axis.errorbar(
        x,
        mean,
        yerr=bars,
        linestyle=style.line if line else "none",
        elinewidth=0.9,
        capsize=0,
        zorder=3 if style.role == "method" else 2.5,
        **style.marker_options(),
        **options,
    )


def dot(
    axis: Axes, place: float, row: Mapping[Any, Any], numbers: Sequence[str], factor: float, **look: Any
) -> None:
    """Draw one number with its interval lying down; a number without an interval is a dot alone.

    Args:
        numbers: the columns of the number and of the ends of its interval.
        factor: from stored to displayed values.
        look: matplotlib's options of the marker.
    """
    middle, low, high = (factor * row[name] for name in numbers)
    bars = np.nan_to_num([[middle - low], [high - middle]]).clip(min=0)
    axis.errorbar(
        middle, place, xerr=bars, elinewidth=1.1, **(look | {"linestyle": "none", "markersize": 4.5})
    )


def arm_rows(axis: Axes, labels: Sequence[str]) -> None:
    """Give the axis one line per arm, the first on top, named at the left."""
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.grid(False, axis="y")
    axis.xaxis.set_major_locator(MaxNLocator(5))


def front(cost: Any, value: Any) -> np.ndarray:
    """Return the positions of the points that no other point beats, cheapest first.

    A point is beaten when another costs no more and is better, or costs less and is as good. Points are
    `cost` (lower is better) and `value` (higher is better), arrays of shape (n,). O(n log n).
    """
    cost, value = np.asarray(cost, float), np.asarray(value, float)
    kept: list[int] = []
    for i in np.lexsort((-value, cost)):
        if not kept or value[i] > value[kept[-1]]:
            kept.append(int(i))
    return np.array(kept, dtype=int)


def draw_front(axis: Axes, rows: pd.DataFrame, cost: Any, metric: str) -> None:
    """Draw the front as a broad pale step line; its points name the share kept where there is room."""
    chosen = front(cost, rows["mean"])
    x = np.asarray(cost, float)[chosen]
    y = rows["mean"].to_numpy(float)[chosen] * display_scale(metric)
    end = axis.get_xlim()[1]
    axis.plot([*x, end], [*y, y[-1]], color=FRONT_COLOR, drawstyle="steps-post", linewidth=4, zorder=1)
    axis.set_xlim(right=end)
    taken: list[tuple[float, float]] = []
    for a, b, share in zip(x, y, rows["fraction"].to_numpy(float)[chosen], strict=True):
        place = axis.transLimits.transform(axis.transScale.transform((a, b)))
        across, up = float(place[0]) * PANEL[0], float(place[1]) * PANEL[1]
        if all(abs(across - i) > LABEL[0] or abs(up - j) > LABEL[1] for i, j in taken):
            taken.append((across, up))
            axis.annotate(
                percent(share), (a, b), (-4, 5), textcoords="offset points", ha="right", fontsize=6.5
            )


def cost_column(table: pd.DataFrame, cost: str) -> list[str]:
    """Return the cost column's name as a list.

    Raises:
        UserError: it is not a cost, or the table has not been joined with the costs.
    """
    if cost not in COSTS or cost not in table.columns:
        raise unknown("cost", cost, [name for name in COSTS if name in table.columns], "figure")
    return [cost]


def cost_axis(axis: Axes, cost: str, span: pd.Series) -> float:
    """Set a logarithmic cost axis that holds the times of `span`; return its unit in seconds.

    Args:
        span: seconds of all rows of the dataset, so that its panels share one range.
    """
    unit, size = next((name, size) for name, size, limit in _UNITS if span.max() < limit)
    axis.set_xscale("log")
    low, high = math.log10(span.min() / size), math.log10(span.max() / size)
    pad = max(0.1 * (high - low), 0.05)
    axis.set_xlim(10 ** (low - 1.8 * pad), 10 ** (high + pad))
    log_ticks(axis.xaxis, span / size)
    axis.set_xlabel(f"{COSTS[cost]} ({unit})")
    return size


def log_ticks(axis: Axis, span: pd.Series) -> None:
    """Set plain numbers as the ticks of a logarithmic axis, closer together where the values span little."""
    decades = math.log10(span.max() / span.min())
    few = MaxNLocator(5, steps=[1, 2, 5, 10])
    axis.set_major_locator(few if decades < 0.6 else LogLocator(subs=(1, 2, 5) if decades < 2 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


_UNITS = (("s", 1.0, 900.0), ("min", 60.0, 36000.0), ("h", 3600.0, math.inf))


def fraction_axis(axis: Axes, fractions: Iterable[float], n_arms: int) -> float:
    """Set the axis of the share kept, ticks at the shares; return the step that sets `n_arms` arms apart.

    The axis is logarithmic when the shares span more than a factor of 16. All arms together take at most
    half of the smallest distance between two shares.
    """
    ticks = sorted(set(fractions))
    axis.set_xlabel("training examples kept (%)")
    log = ticks[-1] / ticks[0] > 16
    if log:
        axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{100 * tick:g}" for tick in ticks])
    axis.xaxis.set_minor_locator(NullLocator())
    if len(ticks) == 1:
        axis.set_xlim(0.8 * ticks[0], 1.2 * ticks[0])
    places = np.log(ticks) if log else np.array(ticks)
    spread = float(np.ptp(places)) or 1.2 * ticks[0]
    room = 0.5 * float(np.diff(places).min()) if len(ticks) > 1 else 0.12 * spread
    return min(0.016 * spread, 0.12 * spread / max(n_arms, 1), room / max(n_arms, 1))


def same_y(axes: Mapping[tuple[str, str], Axes]) -> None:
    """Give the panels of one dataset the same vertical range, with a calm number of ticks."""
    for dataset in {key[0] for key in axes}:
        group = [axis for key, axis in axes.items() if key[0] == dataset]
        limits = [axis.get_ylim() for axis in group]
        for axis in group:
            axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
            axis.yaxis.set_major_locator(MaxNLocator(6))


def legend(figure: Figure, rows: pd.DataFrame, styles: Mapping[str, ArmStyle], **options: Any) -> None:
    """Put the legend of the arms in `rows` below the panels, where it covers no data; grow the figure for it.

    Args:
        options: see `legend_handles`.
    """
    handles = legend_handles(set(rows["arm"]), styles, **options)
    widths = [0.068 * len(str(handle.get_label())) + 0.55 for handle in handles]
    lines, columns = _legend_shape(widths, figure.get_figwidth())
    figure.set_figheight(figure.get_figheight() + 0.18 * lines + 0.1)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, handlelength=2.6, columnspacing=1.4
    )


def _legend_shape(widths: Sequence[float], room: float) -> tuple[int, int]:
    """Return the fewest lines, and the columns, in which entries of these widths (inches) fit."""
    for lines in range(1, len(widths) + 1):
        columns = [widths[i : i + lines] for i in range(0, len(widths), lines)]
        if sum(max(column) for column in columns) <= room:
            return lines, len(columns)
    return len(widths), 1


def legend_handles(
    arms: Container[str],
    styles: Mapping[str, ArmStyle],
    lines: bool = True,
    levels: Container[str] = (),
    with_front: bool = False,
) -> list[Line2D]:
    """Return the legend's entries in the suite's order.

    Args:
        arms: the arms drawn.
        lines: whether the figure joins an arm's points by a line.
        levels: the arms drawn as a horizontal line, without markers.
        with_front: whether the Pareto front is drawn.
    """
    handles = []
    for arm, style in styles.items():
        if arm in arms:
            look = style.marker_options() | {
                "linestyle": style.line if lines else "none",
                "label": style.label,
            }
            handles.append(Line2D([], [], **(look | {"marker": "none"} if arm in levels else look)))
    if with_front:
        handles.append(Line2D([], [], color=FRONT_COLOR, linewidth=4, label="Pareto front"))
    return handles
