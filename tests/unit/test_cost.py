from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from evidence_table import rows, table

from winnow.errors import UserError
from winnow.evidence.cost import cost_table, pareto


def seeds(arm, totals, **fields):
    given = rows(arm, [0.5] * len(totals), **fields)
    spent = [{"total_wall_s": 2 * total, "training_cpu_s": total - 8.0} for total in totals]
    return [row | own for row, own in zip(given, spent, strict=True)]


def test_medians_over_seeds_with_selection_and_training_apart():
    found = cost_table(table(seeds("sas", [10.0, 30.0, 11.0], selection_wall_s=4.0)), "sas")
    assert len(found) == 1
    cell = found.iloc[0]
    assert (cell["total_wall_s"], cell["selection_wall_s"], cell["relative_total"]) == (
        22.0,
        4.0,
        1.0,
    )
    assert (
        cell["training_wall_s"],
        cell["evaluation_wall_s"],
        cell["total_cpu_s"],
    ) == (10.0, 3.0, 11.0)
    assert (cell["peak_memory_gb"], cell["bytes_written"], cell["device"]) == (
        0.5,
        1000,
        "cpu",
    )


def test_a_seed_counts_once_however_many_metrics_it_has():
    one = seeds("sas", [10.0, 20.0, 90.0])
    extra = [row | {"metric": name} for name in ("loss", "validation_accuracy") for row in one[2:]]
    pd.testing.assert_frame_equal(cost_table(table(one, extra), "sas"), cost_table(table(one), "sas"))


def test_disagreeing_costs_of_one_seed_are_an_error():
    one = seeds("sas", [10.0])
    with pytest.raises(UserError, match=r"different costs .*arm=sas.*seed=0"):
        cost_table(table(one, [one[0] | {"metric": "loss", "total_wall_s": 11.0}]), "sas")


def test_relative_to_full_data_at_the_same_length_or_its_only_one():
    metrics = table(
        seeds("full", [100.0, 120.0, 110.0], fraction=1.0),
        seeds("sas", [11.0, 22.0, 33.0]),
        seeds("sas", [55.0, 55.0, 55.0], length="steps"),
    )
    found = cost_table(metrics, "full").set_index(["arm", "length"])["relative_total"]
    assert found.to_dict() == pytest.approx(
        {("full", "epochs"): 1.0, ("sas", "epochs"): 0.2, ("sas", "steps"): 0.5}
    )
    both = table(
        *[
            metrics.to_dict("records"),
            seeds("full", [220.0], fraction=1.0, length="steps"),
        ]
    )
    again = cost_table(both, "full").set_index(["arm", "length"])["relative_total"]
    assert again["sas", "steps"] == pytest.approx(0.25)


def test_each_dataset_has_its_own_reference():
    parts = [seeds(arm, [t], dataset=d) for arm, t, d in [("full", 10.0, "a"), ("full", 40.0, "b")]]
    parts += [seeds("sas", [10.0], dataset=d) for d in "ab"]
    found = cost_table(table(*parts), "full").set_index(["arm", "dataset"])["relative_total"]
    assert (found["sas", "a"], found["sas", "b"]) == (1.0, 0.25)


def test_costs_on_different_devices_are_not_divided():
    found = cost_table(table(seeds("full", [10.0]), seeds("sas", [1.0], device="cuda")), "full")
    assert found.set_index("arm")["relative_total"].isna().to_dict() == {
        "full": False,
        "sas": True,
    }


def test_missing_references_are_errors():
    with pytest.raises(UserError, match=r"unknown reference arm 'ful'.*'full'"):
        cost_table(table(seeds("full", [1.0])), "ful")
    with pytest.raises(UserError, match="0 cells for suite sas, dataset other"):
        cost_table(table(seeds("full", [1.0]), seeds("sas", [1.0], dataset="other")), "full")


def dominated(points, i):
    cost, value = points[i]
    return any(c <= cost and v >= value and (c < cost or v > value) for c, v in points)


@pytest.mark.parametrize("seed", range(20))
def test_pareto_equals_brute_force_with_ties(seed):
    points = np.random.default_rng(seed).integers(0, 6, (30, 2)).astype(float)
    frame = pd.DataFrame(points, columns=["cost", "value"], index=np.arange(30) + 100)
    mask = pareto(frame, "cost", "value")
    assert mask.tolist() == [not dominated(points, i) for i in range(30)]
    assert mask.index.equals(frame.index) and mask.dtype == bool
    assert not mask.all()


def test_pareto_of_equal_missing_and_no_rows():
    frame = pd.DataFrame({"cost": [1, 1, 2, np.nan, 0], "value": [5, 5, 5, 9, np.nan]})
    assert pareto(frame, "cost", "value").tolist() == [True, True, False, False, False]
    assert pareto(frame.iloc[:0], "cost", "value").tolist() == []
