"""Accuracy under a shift against accuracy without it, and how far each arm lies above the baseline's line.

Effective robustness (Taori et al. 2020): what a model has above the accuracy that standard models with its
accuracy in distribution have under the shift. The line is fitted to the baseline's points on logit axes,
where such points lie on lines, for every repetition apart; the intervals are over repetitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
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
    "line is fitted to the baseline's points; effective robustness is the distance above it. Dashed: equal "
    "accuracies."
)
BORDERS = (0.005, 0.995)
CELL = ["suite", "arm", "dataset", "fraction", "length"]


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
        The figure and one row per point: both means with their intervals, and the effective robustness in
        accuracy with its interval.

    Raises:
        UserError: the baseline has fewer than two points in a dataset, so that there is no line.
    """
    table = table[table["dataset"].isin(grids)] if grids else table
    pairs = _pairs(table, arms, shifted, plain, only)
    line_of = layout.baseline_of(pairs, arms, baseline)
    pairs = pd.concat([_above(part, line_of) for _, part in pairs.groupby("dataset", sort=False)])
    rows = _means(pairs, arms)
    styles, datasets = arm_styles(arms), list(dict.fromkeys(rows["dataset"]))
    figure, axes = layout.grid([datasets])
    for dataset, axis in zip(datasets, axes, strict=True):
        here = rows[rows["dataset"] == dataset]
        _panel(axis, here, styles, _line(here[here["arm"] == line_of]))
        axis.set(xlabel="without the shift (%)", ylabel="under the shift (%)")
    layout.legend(figure, rows, styles)
    return figure, rows


def _pairs(
    table: pd.DataFrame, arms: Mapping[str, Any], shifted: str, plain: str, only: list[str] | None
) -> pd.DataFrame:
    """Return one row per cell and seed with the columns `x` (plain) and `y` (shifted), inside the borders."""
    parts = [layout.of_metric(table, name).set_index([*CELL, "seed"])["value"] for name in (plain, shifted)]
    rows = pd.concat(parts, axis=1, keys=["x", "y"]).dropna().clip(*BORDERS).reset_index()
    rows = rows[rows["arm"].isin(only or list(arms))]
    order = rows["arm"].map(list(arms).index)
    return rows.iloc[np.lexsort([rows["seed"], rows["fraction"], order])]


def _above(rows: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Add `above`: y minus the line of the same seed's baseline points at x."""
    line = rows[rows["arm"] == baseline]
    points = line.groupby("seed")["x"].nunique()
    if points.empty or points.min() < 2:
        raise UserError(
            f"figure 'effective_robustness': baseline: '{baseline}' has fewer than two different points in"
            f" '{rows['dataset'].iloc[0]}'. Train it on several shares of the data."
        )
    fits = {seed: np.polyfit(logit(part["x"]), logit(part["y"]), 1) for seed, part in line.groupby("seed")}
    rows = rows[rows["seed"].isin(fits)]
    expected = [
        expit(np.polyval(fits[seed], logit(x))) for seed, x in zip(rows["seed"], rows["x"], strict=True)
    ]
    return rows.assign(above=rows["y"] - expected)


def _means(rows: pd.DataFrame, arms: Mapping[str, Any]) -> pd.DataFrame:
    found = []
    for cell, part in rows.groupby(CELL, sort=False):
        values: dict[str, float] = {"n_seeds": len(part)}
        for name, column in (("plain", "x"), ("shifted", "y"), ("effective_robustness", "above")):
            mean, half = _interval(part[column].to_numpy(float))
            values |= {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}
        label = arms[str(cell[1])].get("label", cell[1])
        found.append(dict(zip(CELL, cell, strict=True)) | {"label": label} | values)
    return pd.DataFrame(found)


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and half of its 95 % interval by Student's t; NaN for one value."""
    n = len(values)
    if n < 2:
        return float(values.mean()), float("nan")
    return float(values.mean()), float(student.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))


def _line(rows: pd.DataFrame) -> np.ndarray:
    return np.polyfit(logit(rows["plain"]), logit(rows["shifted"]), 1)


def _panel(axis: Axes, rows: pd.DataFrame, styles: Mapping[str, ArmStyle], line: np.ndarray) -> None:
    values = rows[["plain", "shifted"]].to_numpy(float)
    low, high = np.clip([values.min() - 0.06, values.max() + 0.04], *BORDERS)
    along = np.linspace(low, high, 100)
    axis.plot(along, along, color="#BBBBBB", linestyle="--", linewidth=0.8, zorder=1)
    axis.plot(along, expit(np.polyval(line, logit(along))), color="#4A4A4A", linewidth=1.0, zorder=1)
    for arm, style in styles.items():
        part = rows[rows["arm"] == arm]
        if len(part):
            spread = [np.nan_to_num(part[f"{k}_high"] - part[k]) for k in ("plain", "shifted")]
            axis.errorbar(
                part["plain"], part["shifted"], xerr=spread[0], yerr=spread[1], linestyle="none",
                elinewidth=0.8, zorder=3, label=style.label, **style.marker_options(),
            )  # fmt: skip
    axis.set(xscale="logit", yscale="logit", xlim=(low, high), ylim=(low, high))
    ticks = [
        tick for tick in (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99) if low <= tick <= high
    ]
    for each in (axis.xaxis, axis.yaxis):
        each.set_ticks(ticks, [f"{100 * tick:g}" for tick in ticks])
        each.set_ticks([], minor=True)
