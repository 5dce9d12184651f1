"""Differences to a baseline: the same numbers as the paired comparison, in the cells that both have."""

from __future__ import annotations

import numpy as np
import pytest
from evidence_table import rows, table

from winnow.errors import UserError
from winnow.evidence.differences import differences
from winnow.evidence.paired import compare

A, B = [0.50, 0.61, 0.57], [0.48, 0.55, 0.56]
METRICS = table(
    rows("a", A),
    rows("a", [0.7, 0.8], fraction=0.4),
    rows("a", A, fraction=0.6),
    rows("b", B),
    rows("b", [0.6, 0.9], fraction=0.4),
    rows("full", [0.9, 0.8, 0.85], fraction=1.0),
)


def test_equal_to_the_paired_comparison() -> None:
    found = differences(METRICS.sample(frac=1, random_state=0), "test_accuracy", "b")
    first, second = found.to_dict("records")
    a, b = (METRICS.query(f"arm == '{arm}' and fraction == 0.2").set_index("seed")["value"] for arm in "ab")
    expected = compare(a, b, margin=0, alternative="greater")
    assert (first["arm"], first["fraction"], first["n_seeds"]) == ("a", 0.2, 3)
    assert (first["difference"], first["low"], first["high"]) == (
        expected.effect,
        expected.ci_low,
        expected.ci_high,
    )
    assert second["difference"] == pytest.approx(0.0) and np.isnan(second["low"]) and np.isnan(second["high"])


def test_a_reference_is_matched_on_the_dataset_alone() -> None:
    metrics = METRICS[METRICS["fraction"] != 0.4]
    found = differences(metrics, "test_accuracy", "full", matched=["dataset"]).set_index(["arm", "fraction"])
    assert set(found.index) == {("a", 0.2), ("a", 0.6), ("b", 0.2)}
    assert found.loc[("b", 0.2), "difference"] == pytest.approx(np.mean(B) - 0.85)


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="unknown baseline 'c'"):
        differences(METRICS, "test_accuracy", "c")
    with pytest.raises(UserError, match=r"difference to 'b' at .*arm=a, dataset=digits, fraction=0.2.*seed"):
        differences(METRICS[METRICS.index != 2], "test_accuracy", "b")
    with pytest.raises(UserError, match="more than one value"):
        differences(METRICS[METRICS["arm"] != "full"], "test_accuracy", "b", matched=["dataset"])
