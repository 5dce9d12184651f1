from __future__ import annotations

import pandas as pd
import pytest
from evidence_table import rows, table
from pydantic import ValidationError

from winnow.errors import UserError
from winnow.evidence.paired import summary
from winnow.evidence.reproduction import reproduction_table
from winnow.plan.claims import ReproductionEntry

COMMAND = "snakemake sas --config scale=paper"
OURS = rows("sas", [0.59, 0.60, 0.61])  # 95 % t interval: 0.60 +- 4.302653 * 0.01 / sqrt(3) = 0.0248


def entry(**changes):
    base = {
        "dataset": "digits",
        "arm": "sas",
        "fraction": 0.2,
        "metric": "test_accuracy",
        "paper_value": 0.61,
        "source": "table 1",
        "mark": "second-hand",
    }
    return ReproductionEntry.model_validate(base | changes)


def row(scale="paper", results=OURS, **changes):
    found = reproduction_table([entry(**changes)], summary(table(results)), scale, COMMAND)
    assert len(found) == 1
    return found.iloc[0]


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (0.6, "reproduced"),
        (0.6248, "reproduced"),
        (0.6249, "differs"),
        (0.5, "differs"),
    ],
)
def test_the_papers_value_inside_or_outside_our_interval(value, status):
    found = row(paper_value=value)
    assert found["status"] == status
    assert found[["ours", "ci_low", "ci_high"]].tolist() == pytest.approx([0.6, 0.575159, 0.624841], abs=1e-6)
    assert (found["n_seeds"], found["command"], found["mark"]) == (
        3,
        COMMAND,
        "second-hand",
    )


def test_another_scale_does_not_count():
    found = row(scale="demo")
    assert found["status"] == "not run"
    assert "demo scale" in found["reason"] and "paper scale" in found["reason"]
    assert pd.isna(found["ours"]) and found["n_seeds"] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "other"},
        {"arm": "random"},
        {"fraction": 0.4},
        {"metric": "loss"},
        {"length": "steps"},
    ],
)
def test_a_cell_without_result_is_not_run(change):
    assert row(**change)["status"] == "not run"


def test_two_seeds_decide_nothing():
    found = row(results=OURS[:2])
    assert found["status"] == "not run" and "too few seeds (2" in found["reason"]
    assert found["ours"] == pytest.approx(0.595)


def test_an_obstacle_counts_until_there_is_a_result():
    reason = "needs 8 GPUs for two days"
    blocked = row(scale="small", obstacle=reason)
    assert (blocked["status"], blocked["reason"]) == ("cannot be run here", reason)
    assert row(obstacle=reason, fraction=0.4)["status"] == "cannot be run here"
    assert row(obstacle=reason)["status"] == "reproduced"


def test_every_entry_has_a_row_in_order():
    entries = [entry(fraction=f) for f in (0.4, 0.2)]
    found = reproduction_table(entries, summary(table(OURS)), "paper", COMMAND)
    assert found["status"].tolist() == ["not run", "reproduced"]
    empty = reproduction_table([], summary(table(OURS)), "paper", COMMAND)
    assert empty.empty and list(empty.columns) == list(found.columns)


def test_results_of_two_suites_are_ambiguous():
    with pytest.raises(UserError, match="2 rows of the summary match sas"):
        row(results=OURS + rows("sas", [0.5], suite="other"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paper_value": 60.35}, "60.35 % is 0.6035"),
        ({"mark": "rumour"}, "'abstract'.*'second-hand'.*'unverified'"),
        ({"fraction": 0}, "greater than 0"),
        ({"length": "hours"}, "'epochs' or 'steps'"),
        ({"made_at": "large"}, "'demo', 'small' or 'paper'"),
        ({"note": "x"}, "Extra inputs"),
    ],
)
def test_mistakes_in_an_entry_name_what_is_accepted(change, message):
    with pytest.raises(ValidationError, match=message):
        entry(**change)
