"""The benchmark of growth knows the signals of every method, and finds slopes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from benchmarks import growth

from winnow import registry


@pytest.mark.parametrize("name", registry.names("select"))
def test_every_method_runs_on_made_up_signals(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(growth, "REPEAT_S", 1e-9)
    assert growth.seconds_of(registry.load("select", name, "test"), 200, 16, 0.1) > 0


def test_slopes_are_those_of_power_laws() -> None:
    rows = [
        {"method": "made_up", "axis": axis, **(growth.BASE | {axis: value}), "seconds": 3 * value**power}
        for (axis, values), power in zip(growth.GRID.items(), (2.0, 0.5, 1.0), strict=True)
        for value in values
    ]
    found = growth.slopes(pd.DataFrame(rows)).loc["made_up"]
    assert found[["n", "d", "budget"]].tolist() == pytest.approx([2.0, 0.5, 1.0])
    few = pd.DataFrame(rows[:2])
    assert np.isnan(growth.slope(few, "n"))
