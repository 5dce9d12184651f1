"""Error against the number of training examples, with a power law per arm and its exponent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from winnow.errors import UserError, one_of
from winnow.evidence.metrics import check_metrics
from winnow.evidence.paired import summary
from winnow.evidence.power_law import fit_power_law
from winnow.figures import layout
from winnow.figures.style import ArmStyle, arm_styles, styled
from winnow.figures.units import length_label, metric_label, percent

TABLE = "values"
TITLE = "Error against number of examples"
CAPTION = (
    "Mean error over seeds with its 95 % interval, on logarithmic axes. A line is the fitted power law: the "
    "error is proportional to the number of examples to the power of -b (plus a constant where the suite "
    "fits one). The last panels show b with its 95 % interval over seeds. An arm with fewer than 3 sizes has "
    "points alone."
)
ALONG = ("pool", "share")
LAW = ("scale", "exponent", "exponent_low", "exponent_high", "offset")


@styled
def draw(
    table: pd.DataFrame,
    arms: dict[str, dict[str, Any]],
    metric: str = "test_accuracy",
    length: str | None = None,
    along: str = "pool",
    offset: bool = False,
    only: list[str] | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Draw error (1 - metric) against examples trained on, and a panel of exponents per dataset.

    Grids of one dataset at several sizes are labelled `<dataset>_<size>` in the suite.

    Args:
        table: one row per cell, seed and metric, with the column budget (examples trained on).
        arms: all arms of the suite, name -> {label, role}, in the suite's order.
        metric: an accuracy.
        length: "epochs" or "steps" for one of them alone; None draws both.
        along: what makes the sizes of one law: "pool", grids of one dataset at several sizes and the same
            share kept, a panel per share; or "share", the shares kept of one grid, a panel per grid.
        offset: whether the law has an error that stays with any number of examples; asks for 4 sizes.
        only: the arms to draw; None draws all.

    Returns:
        The figure and one row per point: mean error with its interval, and the law of its arm in its panel.
    """
    if along not in ALONG:
        raise UserError(f"figure 'power_law': along: '{along}' is not accepted. Accepted: {one_of(ALONG)}.")
    if "accuracy" not in metric:
        raise UserError(f"figure 'power_law': metric: '{metric}' is not accepted. Accepted: an accuracy.")
    values = check_metrics(layout.of_metric(table, metric))
    means = layout.choose(summary(values), arms, metric, length, keep=["budget"], only=only)
    styles = arm_styles(arms)
    panels = [panel.fitted(values, offset) for panel in _panels(_errors(means, metric), arms, along)]
    lines = [
        [panel for panel in panels if panel.group == group]
        for group in dict.fromkeys(panel.group for panel in panels)
    ]
    figure, axes = layout.grid([[*(panel.title for panel in own), f"{own[0].group}: b"] for own in lines])
    places = iter(axes)
    for own in lines:
        for panel in own:
            _draw_panel(next(places), panel.rows, styles)
        _draw_exponents(next(places), own, styles, "training examples kept" if along == "pool" else "grid")
    layout.legend(figure, means, styles)
    return figure, pd.concat([panel.rows.assign(panel=panel.title) for panel in panels], ignore_index=True)


@dataclass(frozen=True)
class _Panel:
    """One panel: the points of every arm, and the group (dataset and length) whose exponents are compared."""

    group: str
    name: str
    title: str
    rows: pd.DataFrame

    def fitted(self, values: pd.DataFrame, offset: bool) -> _Panel:
        """Return the panel with each arm's law beside its points (NaN where none can be fitted)."""
        parts = []
        for _, rows in self.rows.groupby("arm", sort=False):
            seeds = values.merge(rows[layout.CELL], on=layout.CELL)
            table = seeds.pivot(index="seed", columns=["dataset", "fraction"], values=["budget", "value"])
            law = fit_power_law(table["budget"].to_numpy(float), 1 - table["value"].to_numpy(float), offset)
            found = [np.nan] * 5 if law is None else [law.scale, law.exponent, law.low, law.high, law.offset]
            parts.append(rows.assign(**dict(zip(LAW, found, strict=True))))
        return replace(self, rows=pd.concat(parts))


def _errors(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    ends = {"mean": 1 - rows["mean"], "ci_low": 1 - rows["ci_high"], "ci_high": 1 - rows["ci_low"]}
    return rows.assign(metric=f"1 - {metric}", **ends)


def _panels(rows: pd.DataFrame, arms: Mapping[str, Any], along: str) -> list[_Panel]:
    """Split the rows into panels; a reference is drawn in every panel of its dataset."""
    rows = rows.assign(family=rows["dataset"].map(lambda label: re.sub(r"_\d+$", "", label)))
    full = rows["arm"].map(lambda arm: layout.is_reference(arms, arm))
    by = "fraction" if along == "pool" else "dataset"
    groups = (rows[~full] if not full.all() else rows).groupby(["family", "length", by])
    panels = []
    for (family, length, key), part in sorted(groups, key=lambda item: [layout.natural(k) for k in item[0]]):
        own = full & (rows["family"] == family) & ((by == "fraction") | (rows["dataset"] == key))
        name = percent(key) if by == "fraction" else str(key).removeprefix(f"{family}_")
        title = f"{family}, {name}" if by == "fraction" else str(key)
        here = pd.concat([rows[own & ~rows.index.isin(part.index)], part]).drop(columns="family")
        trained = length_label(str(length))
        panels.append(_Panel(f"{family}, {trained}", name, f"{title}, {trained}", here))
    return panels


def _draw_panel(axis: Axes, rows: pd.DataFrame, styles: Mapping[str, ArmStyle]) -> None:
    axis.set(xscale="log", yscale="log", xlabel="examples trained on")
    axis.set_ylabel(f"error, {metric_label(rows['metric'].iloc[0])}")
    for arm in (arm for arm in styles if arm in set(rows["arm"])):
        part, style = rows[rows["arm"] == arm].sort_values("budget"), styles[arm]
        layout.points(axis, part["budget"], part, part["metric"].iloc[0], style, line=False)
        law = part.iloc[0]
        n = np.geomspace(part["budget"].min(), part["budget"].max(), 50)
        error = law["scale"] * n ** -law["exponent"] + law["offset"]
        axis.plot(n, 100 * error, color=style.color, linestyle=style.line, linewidth=1.1, zorder=2)
    layout.log_ticks(axis.xaxis, rows["budget"])
    layout.log_ticks(axis.yaxis, 100 * rows["mean"])


def _draw_exponents(axis: Axes, panels: list[_Panel], styles: Mapping[str, ArmStyle], across: str) -> None:
    present = [arm for arm in styles if any(arm in set(panel.rows["arm"]) for panel in panels)]
    for place, panel in enumerate(panels):
        for turn, arm in enumerate(present):
            law = panel.rows[panel.rows["arm"] == arm].head(1)
            x = place + 0.7 * ((turn + 0.5) / len(present) - 0.5)
            ends = {"mean": law["exponent"], "ci_low": law["exponent_low"], "ci_high": law["exponent_high"]}
            layout.points(axis, [x] * len(law), law.assign(**ends), "exponent", styles[arm])
    axis.set_xticks(range(len(panels)), [panel.name for panel in panels])
    axis.set(xlim=(-0.5, len(panels) - 0.5), xlabel=across, ylabel="exponent b")
    axis.xaxis.set_minor_locator(NullLocator())
