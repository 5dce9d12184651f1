"""A score that joins two quantities, against the weight of one of them: does the weight decide the order?"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from winnow.errors import UserError, one_of
from winnow.figures import layout
from winnow.figures.style import arm_styles, styled
from winnow.figures.units import length_label, metric_label, percent

TABLE = "summary"
TITLE = "Scores by weight"
CAPTION = (
    "Mean over seeds with its 95 % interval, for several weights of the quantities that the score joins. "
    "Lines that cross are arms whose order the weight decides."
)
MARK = "_weight_"


@styled
def draw(
    table: pd.DataFrame,
    arms: dict[str, dict[str, Any]],
    scores: dict[str, str] | None = None,
    only: list[str] | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Draw one panel per score, dataset, share and length.

    Args:
        table: one row per cell and metric; the metrics `<score>_weight_<w>` are drawn.
        arms: all arms of the suite, name -> {label, role}, in the suite's order.
        scores: the scores -> their names on the axis; None draws lrs.
        only: the arms to draw; None draws all that have the metric.

    Returns:
        The figure and the rows it shows, with the columns `score` and `weight`.

    Raises:
        UserError: the table has no weights of a score.
    """
    names = scores or {"lrs": ""}
    rows = pd.concat([_rows(table, arms, score, only) for score in names], ignore_index=True)
    styles = arm_styles(arms)
    found = set(zip(rows["length"], rows["dataset"], rows["fraction"], strict=True))
    places = sorted(found, key=lambda place: [layout.natural(part) for part in place])
    keys = [(score, *place) for place in places for score in names]
    titles = [
        f"{dataset},\n{length_label(length)}, {percent(share)} kept" for _, length, dataset, share in keys
    ]
    across = len(names) if len(names) > 1 else len(keys)
    figure, axes = layout.grid([titles[i : i + across] for i in range(0, len(titles), across)])
    for (score, length, dataset, share), axis in zip(keys, axes, strict=True):
        here = (rows["score"] == score) & (rows["dataset"] == dataset) & (rows["length"] == length)
        part = rows[here & (rows["fraction"] == share)]
        for arm in (arm for arm in arms if arm in set(part["arm"])):
            own = part[part["arm"] == arm].sort_values("weight")
            layout.points(axis, own["weight"].to_numpy(float), own, score, styles[arm])
        axis.set_xticks(sorted(part["weight"].unique()))
        axis.set(xlabel="weight", ylabel=names[score] or metric_label(score))
    layout.legend(figure, rows, styles)
    return figure, rows


def _rows(table: pd.DataFrame, arms: dict[str, Any], score: str, only: list[str] | None) -> pd.DataFrame:
    found = sorted(name for name in table["metric"].unique() if name.startswith(f"{score}{MARK}"))
    if not found:
        raise UserError(
            f"figure 'by_weight': scores: '{score}' has no weights;"
            f" metrics: {one_of(table['metric'].unique())}."
        )
    parts = [layout.choose(table, arms, name, None, only=only) for name in found]
    weights = [float(name.removeprefix(f"{score}{MARK}")) for name in found]
    return pd.concat(
        [part.assign(score=score, weight=weight) for part, weight in zip(parts, weights, strict=True)]
    )
