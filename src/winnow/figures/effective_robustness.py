"""Accuracy under a shift against accuracy without it, and how far each arm lies above the baseline's line.

Effective robustness (Taori et al. 2020): what a model has above the accuracy that standard models with its
accuracy in distribution have under the shift. Such models lie near a line on logit axes.

There is one fit. Each repetition has its own line, by least squares on the logits of the baseline's points of
that repetition alone. An arm's value is its distance in accuracy above the line of the same repetition, mean
over repetitions. The line drawn is the mean of the same lines, and its band the 95 % interval of their mean
at each place, both on the logit axis. All intervals are Student's t over repetitions, so the doubt about the
line is part of each value's interval. The band says nothing of whether the relation is a line.

A point is extrapolated where its mean accuracy without the shift is outside of the baseline's means: there
the value is one of the line more than of data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import expit, logit
from scipy.stats import t as student

from winnow.errors import UserError
from winnow.figures import layout
from winnow.figures.style import ArmStyle, arm_styles, styled

TABLE = "values"
TITLE = "Accuracy under the shift against accuracy without it"
CAPTION = (
    "A point is an arm at one share of the data, mean over seeds with 95 % intervals, on logit axes. The "
    "line is the mean of the lines fitted to the baseline's points of each seed, with its 95 % band over "
    "seeds; effective robustness is the distance above it. Dotted line and open markers: outside of the "
    "range of the baseline's points, extrapolated. Dashed: equal accuracies."
)
BORDERS = (0.005, 0.995)
CELL = ["suite", "arm", "dataset", "fraction", "length"]
LINE_COLOR = "#4A4A4A"

Floats = npt.NDArray[np.float64]


class Lines(NamedTuple):
    """The baseline's lines in one dataset, seed -> (slope, intercept) on logits, and its points' range."""

    by_seed: Mapping[Any, Floats]
    low: float
    high: float

    def at(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the mean of the lines at x, and the ends of its interval: all accuracies, (n,)."""
        heights = np.stack([np.polyval(line, logit(x)) for line in self.by_seed.values()])
        mean, half = _intervals(heights)
        return expit(mean), expit(mean - half), expit(mean + half)

    def within(self, x: Floats) -> npt.NDArray[np.bool_]:
        """Return which of x are in the baseline's range."""
        return (x >= self.low) & (x <= self.high)


@styled
def draw(
    table: pd.DataFrame,
    arms: dict[str, dict[str, Any]],
    baseline: str | None = None,
    shifted: str = "test_accuracy",
    plain: str = "validation_accuracy",
    grids: list[str] | None = None,
    only: list[str] | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Draw a panel per dataset.

    Args:
        table: one row per cell, seed and metric.
        arms: all arms of the suite, name -> {label, role}, in the suite's order.
        baseline: the arm whose points give the line; None is the first control.
        shifted: the accuracy under the shift. plain: the accuracy without it.
        grids: the datasets to draw; None draws all.
        only: the arms to draw; None draws all.

    Returns:
        The figure and one row per point: both means with their intervals, the effective robustness in
        accuracy with its interval, the panel's line at the point (`line`) with its band, and whether the
        point is `extrapolated`. NaN for the intervals of one seed.

    Raises:
        UserError: the baseline has fewer than two points in a dataset, so that there is no line.
    """
    table = table[table["dataset"].isin(grids)] if grids else table
    pairs = _pairs(table, arms, shifted, plain, only)
    line_of = layout.baseline_of(pairs, arms, baseline)
    panels = {
        str(name): _panel_rows(part, arms, line_of) for name, part in pairs.groupby("dataset", sort=False)
    }
    # Open markers are for extrapolated points alone, so controls are filled here too.
    styles = {name: replace(style, filled=True) for name, style in arm_styles(arms).items()}
    figure, axes = layout.grid([list(panels)])
    for (rows, lines), axis in zip(panels.values(), axes, strict=True):
        _panel(axis, rows, styles, lines)
        axis.set(xlabel="without the shift (%)", ylabel="under the shift (%)")
    drawn = pd.concat([rows for rows, _ in panels.values()], ignore_index=True)
    layout.legend(figure, drawn, styles, lines=False)
    return figure, drawn


def _pairs(
    table: pd.DataFrame, arms: Mapping[str, Any], shifted: str, plain: str, only: list[str] | None
) -> pd.DataFrame:
    """Return one row per cell and seed with the columns `x` (plain) and `y` (shifted), inside the borders."""
    parts = [layout.of_metric(table, name).set_index([*CELL, "seed"])["value"] for name in (plain, shifted)]
    rows = pd.concat(parts, axis=1, keys=["x", "y"]).dropna().clip(*BORDERS).reset_index()
    rows = rows[rows["arm"].isin(only or list(arms))]
    order = rows["arm"].map(list(arms).index)
    return rows.iloc[np.lexsort([rows["seed"], rows["fraction"], order])]


def _panel_rows(rows: pd.DataFrame, arms: Mapping[str, Any], baseline: str) -> tuple[pd.DataFrame, Lines]:
    """Return one dataset's points, and the lines that they are measured from."""
    fits = _fits(rows, baseline)
    rows = rows[rows["seed"].isin(fits)]
    expected = [
        expit(np.polyval(fits[seed], logit(x))) for seed, x in zip(rows["seed"], rows["x"], strict=True)
    ]
    points = _means(rows.assign(above=rows["y"] - expected), arms)
    x, own = points["plain"].to_numpy(float), (points["arm"] == baseline).to_numpy()
    lines = Lines(fits, x[own].min(), x[own].max())
    line = dict(zip(("line", "line_low", "line_high"), lines.at(x), strict=True))
    return points.assign(**line, extrapolated=~lines.within(x)), lines


def _fits(rows: pd.DataFrame, baseline: str) -> dict[Any, Floats]:
    """Return the line through the baseline's points of each seed."""
    own = rows[rows["arm"] == baseline]
    points = own.groupby("seed")["x"].nunique()
    if points.empty or points.min() < 2:
        raise UserError(
            f"figure 'effective_robustness': baseline: '{baseline}' has fewer than two different points in"
            f" '{rows['dataset'].iloc[0]}'. Train it on several shares of the data."
        )
    return {seed: np.polyfit(logit(part["x"]), logit(part["y"]), 1) for seed, part in own.groupby("seed")}


def _means(rows: pd.DataFrame, arms: Mapping[str, Any]) -> pd.DataFrame:
    found = []
    for cell, part in rows.groupby(CELL, sort=False):
        values: dict[str, float] = {"n_seeds": len(part)}
        for name, column in (("plain", "x"), ("shifted", "y"), ("effective_robustness", "above")):
            mean, half = (float(number[0]) for number in _intervals(part[[column]].to_numpy(float)))
            values |= {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}
        label = arms[str(cell[1])].get("label", cell[1])
        found.append(dict(zip(CELL, cell, strict=True)) | {"label": label} | values)
    return pd.DataFrame(found)


def _intervals(values: Floats) -> tuple[Floats, Floats]:
    """Return means (n,) of (seeds, n), and half of their 95 % intervals by Student's t; NaN for one seed."""
    n, mean = len(values), values.mean(axis=0)
    if n < 2:
        return mean, np.full_like(mean, np.nan)
    return mean, student.ppf(0.975, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)


def _panel(axis: Axes, rows: pd.DataFrame, styles: Mapping[str, ArmStyle], lines: Lines) -> None:
    values = rows[["plain", "shifted"]].to_numpy(float)
    low, high = np.clip([values.min() - 0.06, values.max() + 0.04], *BORDERS)
    along = np.linspace(low, high, 200)
    axis.plot(along, along, color="#BBBBBB", linestyle="--", linewidth=0.8, zorder=1)
    _draw_line(axis, lines, along)
    for arm, style in styles.items():
        part = rows[rows["arm"] == arm]
        for extrapolated in (False, True):
            _draw_points(axis, part[part["extrapolated"] == extrapolated], style, extrapolated)
    axis.set(xscale="logit", yscale="logit", xlim=(low, high), ylim=(low, high))
    ticks = [
        tick for tick in (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99) if low <= tick <= high
    ]
    for each in (axis.xaxis, axis.yaxis):
        each.set_ticks(ticks, [f"{100 * tick:g}" for tick in ticks])
        each.set_ticks([], minor=True)


def _draw_line(axis: Axes, lines: Lines, along: Floats) -> None:
    """Draw the line with its band, dotted outside of the baseline's points."""
    mean, below, above = lines.at(along)
    axis.fill_between(along, below, above, color=LINE_COLOR, alpha=0.15, linewidth=0, zorder=0.5)
    inside = np.where(lines.within(along), mean, np.nan)
    for heights, style in ((mean, ":"), (inside, "-")):
        axis.plot(along, heights, color=LINE_COLOR, linestyle=style, linewidth=1.0, zorder=1)


def _draw_points(axis: Axes, rows: pd.DataFrame, style: ArmStyle, extrapolated: bool) -> None:
    if rows.empty:
        return
    spread = [np.nan_to_num(rows[f"{name}_high"] - rows[name]) for name in ("plain", "shifted")]
    look = replace(style, filled=not extrapolated).marker_options()
    axis.errorbar(
        rows["plain"], rows["shifted"], xerr=spread[0], yerr=spread[1], linestyle="none", elinewidth=0.8,
        zorder=3, label=style.label, **look,
    )  # fmt: skip
