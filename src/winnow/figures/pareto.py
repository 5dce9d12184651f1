"""The overview: every cell of every suite by accuracy and total cost, one panel per dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from winnow.figures import layout
from winnow.figures.style import arm_styles, styled
from winnow.figures.units import metric_label

TABLE = "summary"
TITLE = "Accuracy against total cost, all suites"
CAPTION = (
    "Every cell of every suite: its mean with the 95 % interval against its median cost per repetition, "
    "selection included. Cells on the pale front are the ones to choose from: nothing cheaper is as good. "
    "The numbers are the shares of the training examples kept."
)


def overview_arms(suites: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Merge the arms of several suites for `draw`: keys become `suite/arm`, labels name the suite.

    Args:
        suites: suite -> arm -> {label, role}.
    """
    several = len(suites) > 1
    return {
        f"{suite}/{name}": {**arm, "label": (f"{suite}: " if several else "") + str(arm.get("label", name))}
        for suite, arms in suites.items()
        for name, arm in arms.items()
    }


@styled
def draw(
    table: pd.DataFrame,
    arms: dict[str, dict[str, Any]],
    metric: str = "test_accuracy",
    cost: str = "total_cpu_s",
    only: list[str] | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Draw all cells by cost and metric with the Pareto front of each dataset.

    Args:
        table: summary rows of all suites with their cost columns (`layout.join_cost`), in seconds.
        arms: `suite/arm` -> {label, role}, as `overview_arms` gives them.
        metric: which metric to draw.
        cost: the cost column on the horizontal axis.
        only: the arms to draw, as `suite/arm`; None draws all.

    Returns:
        The figure and the rows it shows; their `arm` is `suite/arm`.
    """
    table = table.assign(arm=table["suite"] + "/" + table["arm"])
    rows = layout.choose(table, arms, metric, None, keep=layout.cost_column(table, cost), only=only)
    styles = arm_styles(arms)
    datasets = sorted(rows["dataset"].unique(), key=layout.natural)
    figure, axes = layout.grid([datasets])
    for dataset, axis in zip(datasets, axes, strict=True):
        here = rows[rows["dataset"] == dataset].reset_index(drop=True)
        x = here[cost] / layout.cost_axis(axis, cost, here[cost])
        for arm in (arm for arm in styles if arm in set(here["arm"])):
            part = here[here["arm"] == arm]
            layout.points(axis, x[part.index], part, metric, styles[arm], line=False)
        layout.draw_front(axis, here, x, metric)
        if axis.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axis.set_ylabel(metric_label(metric))
    layout.legend(figure, rows, styles, lines=False, with_front=True)
    return figure, rows
