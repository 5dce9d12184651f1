"""Figures of rankings: several metrics side by side, and a score by the weight of what it joins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from evidence_table import rows as seeds_of

from winnow import figures
from winnow.errors import UserError
from winnow.evidence.paired import summary

ARMS: dict[str, dict[str, Any]] = {
    "full": {"label": "full data", "role": "reference"},
    "base": {"label": "random", "role": "control"},
    "ours": {"label": "ours", "role": "method"},
}


def table() -> pd.DataFrame:
    """Return two metrics on two datasets, and a score by weight: 0.2 + w / 10 and, of the other arm, 0.3."""
    rows = []
    for dataset, shift in (("digits_1000", 0.1), ("digits_200", 0.0)):
        for place, arm in enumerate(("base", "ours")):
            about = {"dataset": dataset, "fraction": 0.007}
            rows += seeds_of(arm, place / 10 + shift + np.array([-0.02, 0, 0.02]), metric="ior", **about)
            rows += seeds_of(arm, [0.5 - place / 10] * 3, metric="test_accuracy", **about)
            for weight in (0, 0.5, 1):
                value = 0.3 if place else 0.2 + weight / 10
                rows += seeds_of(arm, [value] * 3, metric=f"lrs_weight_{weight:g}", **about)
    rows += seeds_of("full", [0.9] * 3, fraction=1.0, dataset="digits_200")
    return summary(pd.DataFrame(rows))


def test_a_column_per_metric_and_a_row_per_cell_with_dots_where_the_means_are() -> None:
    drawn, rows = figures.draw(
        "side_by_side",
        table(),
        ARMS,
        metrics={"ior": "IOR", "test_accuracy": ""},
        neutral={"ior": 0.0},
        only=["base", "ours"],
    )
    labels = [axis.get_xlabel() for axis in drawn.axes]
    assert labels == ["IOR", "test accuracy (%)"] * 2
    titles = [drawn.axes[place].get_title("left") for place in (0, 2)]
    assert titles == [f"digits_{n}, equal epochs, 0.7 % kept" for n in (200, 1000)]
    dots = [[float(lines[0].get_xdata()[0]) for lines in axis.containers] for axis in drawn.axes]
    assert dots[0] == pytest.approx([0.0, 0.1]) and dots[2] == pytest.approx([0.1, 0.2])
    assert dots[1] == pytest.approx([50.0, 40.0])
    assert len(rows) == 8 and set(rows["metric"]) == {"ior", "test_accuracy"}
    level = [line for line in drawn.axes[0].get_lines() if list(line.get_xdata()) == [0.0, 0.0]]
    assert len(level) == 1
    assert drawn.axes[0].get_xlim() == drawn.axes[2].get_xlim(), "panels of a metric share its range"


def test_an_arm_without_a_metric_has_no_dot_of_it() -> None:
    drawn, rows = figures.draw("side_by_side", table(), ARMS, metrics={"ior": "", "test_accuracy": ""})
    assert set(rows[rows["arm"] == "full"]["metric"]) == {"test_accuracy"}
    (place,) = [i for i, axis in enumerate(drawn.axes) if "100 % kept" in axis.get_title("left")]
    assert [len(axis.containers) for axis in drawn.axes[place : place + 2]] == [0, 1]


def test_lines_go_through_the_means_by_weight() -> None:
    drawn, rows = figures.draw("by_weight", table(), ARMS, scores={"lrs": "LRS"})
    assert sorted(rows["weight"].unique()) == [0, 0.5, 1] and set(rows["score"]) == {"lrs"}
    assert [axis.get_title("left").split(",")[0] for axis in drawn.axes] == ["digits_200", "digits_1000"]
    assert {axis.get_ylabel() for axis in drawn.axes} == {"LRS"}
    for axis in drawn.axes:
        lines = {tuple(np.round(c[0].get_ydata(), 6)) for c in axis.containers}
        assert lines == {(0.2, 0.25, 0.3), (0.3, 0.3, 0.3)}


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="'ars' has no weights"):
        figures.draw("by_weight", table(), ARMS, scores={"ars": ""})
    with pytest.raises(UserError, match="unknown metric 'lrs'"):
        figures.draw("side_by_side", table(), ARMS, metrics={"lrs": ""})
