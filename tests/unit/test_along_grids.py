"""The figure of a sweep: each grid at its value, arms apart, errors turned round, mistakes named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from evidence_table import rows as seeds_of

from winnow import figures
from winnow.errors import UserError
from winnow.evidence.paired import summary

ARMS = {
    "full": {"label": "all", "role": "reference"},
    "ours": {"label": "ours", "role": "method"},
    "base": {"label": "base", "role": "control"},
}
SWEEPS = {"richness": {"pi_0.0": 0.0, "pi_0.5": 0.5, "pi_1.0": 1.0}, "p": {"p_0.5": 0.5, "pi_1.0": 0.9}}


def table(**changes: Any) -> pd.DataFrame:
    """Return the summary of two metrics for each arm in four grids; accuracy is 0.6, 0.7, ... along them."""
    rows = []
    for place, dataset in enumerate(("pi_0.0", "pi_0.5", "pi_1.0", "p_0.5")):
        for arm in ARMS:
            for metric, start in (("test_accuracy", 0.6), ("validation_accuracy", 0.55)):
                values = start + 0.1 * place + np.array([-0.01, 0, 0.01])
                share = 1.0 if arm == "full" else 0.1
                about = {"metric": metric, "fraction": share, "dataset": dataset}
                rows += seeds_of(arm, values, **(about | changes))
    return summary(pd.DataFrame(rows))


def test_each_grid_is_at_its_value_in_every_sweep_that_names_it() -> None:
    _, rows = figures.draw("along_grids", table(), ARMS, sweeps=SWEEPS, only=["ours"])
    found = {(r.setting, r.at): r.mean for r in rows.itertuples()}
    richness = {("richness", 0.0): 0.6, ("richness", 0.5): 0.7, ("richness", 1.0): 0.8}
    assert found == pytest.approx(richness | {("p", 0.5): 0.9, ("p", 0.9): 0.8})


def test_a_panel_per_metric_and_sweep_with_lines_through_the_means() -> None:
    names = {"test_accuracy": "shifted", "validation_accuracy": "plain"}
    drawn, _ = figures.draw("along_grids", table(), ARMS, sweeps=SWEEPS, only=["ours", "base"], metrics=names)
    assert [axis.get_xlabel() for axis in drawn.axes] == ["richness", "p"] * 2
    assert [axis.get_ylabel() for axis in drawn.axes] == ["shifted (%)", "", "plain (%)", ""]
    assert [text.get_text() for text in drawn.axes[0].get_xticklabels()] == ["0", "0.5", "1"]
    lines = [line for line in drawn.axes[0].get_lines() if len(line.get_xdata()) == 3]
    heights = {tuple(np.round(line.get_ydata(), 6)) for line in lines}
    assert heights == {(60.0, 70.0, 80.0)}
    starts = sorted({float(line.get_xdata()[0]) for line in lines})
    assert len(starts) == 2 and starts[0] < 0 < starts[1] < 0.1


def test_errors_turn_the_interval_round() -> None:
    plain, turned = (
        figures.draw("along_grids", table(), ARMS, sweeps=SWEEPS, only=["ours"], error=error)[1]
        for error in (False, True)
    )
    assert turned["mean"].to_numpy() == pytest.approx(1 - plain["mean"].to_numpy())
    assert turned["ci_low"].to_numpy() == pytest.approx(1 - plain["ci_high"].to_numpy())
    assert (turned["ci_low"] < turned["ci_high"]).all()
    drawn, _ = figures.draw("along_grids", table(), ARMS, sweeps=SWEEPS, only=["ours"], error=True)
    assert drawn.axes[0].get_ylabel() == "1 - test accuracy (%)"


def test_grids_of_no_sweep_may_have_several_shares() -> None:
    rows = table()
    first = rows[rows["dataset"] == "pi_0.0"]
    more = [first.assign(dataset="elsewhere", fraction=share) for share in (0.1, 0.2)]
    rows = pd.concat([rows, *more])
    _, drawn = figures.draw("along_grids", rows, ARMS, sweeps=SWEEPS, only=["ours"])
    assert "elsewhere" not in set(drawn["dataset"]) and len(drawn) == 5


def test_a_sweep_with_one_grid_at_this_scale_is_left_out() -> None:
    rows = table()
    drawn, _ = figures.draw(
        "along_grids", rows[rows["dataset"] != "p_0.5"], ARMS, sweeps=SWEEPS, only=["ours"]
    )
    assert [axis.get_xlabel() for axis in drawn.axes] == ["richness"]


def test_an_arm_with_one_grid_of_a_sweep_is_no_curve() -> None:
    rows = table()
    rows = rows[(rows["dataset"] != "p_0.5") | (rows["arm"] != "base")]
    _, shown = figures.draw("along_grids", rows, ARMS, sweeps=SWEEPS, only=["ours", "base"])
    assert set(shown[shown["setting"] == "p"]["arm"]) == {"ours"}
    assert set(shown[shown["setting"] == "richness"]["arm"]) == {"ours", "base"}


def test_values_that_are_names_stand_in_their_order() -> None:
    sweeps = {"captions": {"pi_1.0": "title", "pi_0.0": "nothing", "p_0.5": "title and more"}}
    drawn, rows = figures.draw("along_grids", table(), ARMS, sweeps=sweeps, only=["ours"])
    ticks = {text.get_text(): text.get_position()[0] for text in drawn.axes[0].get_xticklabels()}
    assert ticks == {"title": 0.0, "nothing": 1.0, "title and more": 2.0}
    (line,) = [line for line in drawn.axes[0].get_lines() if len(line.get_xdata()) == 3]
    assert np.asarray(line.get_ydata()) == pytest.approx([80.0, 60.0, 90.0])
    assert dict(zip(rows["at"], rows["mean"], strict=True))["nothing"] == pytest.approx(0.6)


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match=r"none has two of the grids p_0\.5, pi_0\.0"):
        figures.draw("along_grids", table(), ARMS, sweeps={"richness": {"pi_00": 0.0, "pi_0.5": 0.5}})
    with pytest.raises(UserError, match="none has two"):
        figures.draw("along_grids", table(), ARMS)
    twice = pd.concat([table(), table(fraction=0.5)])
    with pytest.raises(UserError, match="'ours' has several shares"):
        figures.draw("along_grids", twice, ARMS, sweeps=SWEEPS, only=["ours"])
    with pytest.raises(UserError, match="unknown metric"):
        figures.draw("along_grids", table(), ARMS, sweeps=SWEEPS, metrics={"accuracy": "x"})
