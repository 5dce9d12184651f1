"""The scores of DD-Ranking against closed values, and the table of a ranking that they are taken from."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from winnow.distill.engine import dd_ranking
from winnow.distill.engine.dd_ranking import (
    NEUTRAL,
    augmentation_robust_score,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)
from winnow.distill.engine.ranking import best_labels, scores, sweep
from winnow.distill.engine.ranking_run import summary, text
from winnow.errors import UserError


@pytest.mark.parametrize(
    ("hlr", "ior", "lrs"),
    [
        (0.0, 0.0, 0.268941),
        (0.30, 0.05, 0.218949),
        (0.0, 0.20, 0.313687),
        (0.10, 0.10, 0.268941),
        (0.365, -0.03, 0.192691),
        (1.0, -1.0, 0.0),
        (-1.0, 1.0, 1.0),
    ],
)
def test_label_robust_score(hlr: float, ior: float, lrs: float) -> None:
    assert label_robust_score(hlr, ior) == pytest.approx(lrs, abs=1e-6)


def test_percentages_as_released_leave_the_unit_interval() -> None:
    assert label_robust_score(30, 5, percent=True) == pytest.approx(-0.156516, abs=1e-6)
    assert label_robust_score(0, 20, percent=True) == pytest.approx(9371.20, abs=0.01)


def test_percentages_are_refused_where_fractions_are_due() -> None:
    for wrong in (56.5, -0.1, 1.0001, math.nan):
        with pytest.raises(UserError, match="fractions"):
            hard_label_recovery(wrong, 0.5)
        with pytest.raises(UserError, match="fractions"):
            improvement_over_random(0.5, wrong)
    with pytest.raises(UserError, match="difference"):
        label_robust_score(30, 5)
    with pytest.raises(UserError, match="weight"):
        label_robust_score(0.3, 0.1, weight=1.5)


def test_lrs_rises_with_the_improvement_and_falls_with_what_is_missing() -> None:
    steps = [i / 10 for i in range(-10, 11)]
    rising = [label_robust_score(0.2, ior) for ior in steps]
    falling = [label_robust_score(hlr, 0.2) for hlr in steps]
    assert rising == sorted(rising) and len(set(rising)) == 21
    assert falling == sorted(falling, reverse=True) and len(set(falling)) == 21
    assert all(0 <= score <= 1 for score in rising + falling)
    assert label_robust_score(0.3, 0.9, weight=0) == label_robust_score(0.3, -0.9, weight=0)


def test_augmentation_robust_score() -> None:
    assert augmentation_robust_score(0, 0) == pytest.approx(NEUTRAL) == pytest.approx(0.268941, abs=1e-6)
    assert augmentation_robust_score(0.3, -0.1, weight=0.25) == pytest.approx(NEUTRAL)
    assert dd_ranking.augmentation_robust_score(1, 1) == pytest.approx(1)


def runs(**accuracies: tuple[float, ...]) -> pd.DataFrame:
    """Return rows as `train_arms` yields them, of arms such as `synthetic_soft` or `random_hard_plain`."""
    rows = []
    for name, values in accuracies.items():
        data, labels, *plain = name.split("_")
        rows += [
            {
                "data": data,
                "labels": labels,
                "augmented": not plain,
                "seed": seed,
                "test_accuracy": value,
                "validation_accuracy": value + 0.01,
            }
            for seed, value in enumerate(values)
        ]
    return pd.DataFrame(rows)


def test_scores_are_those_of_each_seed() -> None:
    table = runs(full_hard=(0.8, 0.82), synthetic_hard=(0.5, 0.6), random_hard=(0.4, 0.45))
    found = scores(table)
    assert found["hlr"].tolist() == pytest.approx([0.3, 0.22])
    assert found["ior"].tolist() == pytest.approx([0.1, 0.15])
    assert found["lrs"].tolist() == pytest.approx(
        [label_robust_score(0.3, 0.1), label_robust_score(0.22, 0.15)]
    )
    assert "ars" not in found
    mean = summary(found).set_index("quantity")
    assert mean.loc["hlr", "low"] < mean.loc["hlr", "mean"] < mean.loc["hlr", "high"]


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_screen_says_where_one_seed_has_no_interval(seeds: int) -> None:
    table = runs(synthetic_hard=(0.5, 0.6)[:seeds], random_hard=(0.4, 0.45)[:seeds])
    table = table.assign(lr=0.01, examples=10, steps=3)
    shown = text(table, summary(scores(table)), sweep(table))
    assert "nan" not in shown
    assert shown.count("[one seed: no interval]") == (3 if seeds == 1 else 0)


def test_each_side_takes_its_better_labels_and_hlr_stays_with_hard_ones() -> None:
    table = runs(
        full_hard=(0.8,),
        synthetic_hard=(0.5,),
        synthetic_soft=(0.7,),
        random_hard=(0.45,),
        random_soft=(0.4,),
    )
    assert best_labels(table, "synthetic") == "soft" and best_labels(table, "random") == "hard"
    found = scores(table)
    assert found["ior"].tolist() == pytest.approx([0.25])
    assert found["hlr"].tolist() == pytest.approx([0.3])


def test_which_labels_are_better_is_not_asked_of_the_test_set() -> None:
    table = runs(synthetic_hard=(0.5,), synthetic_soft=(0.7,), random_hard=(0.4,))
    table.loc[table["labels"] == "soft", "validation_accuracy"] = 0.1
    assert scores(table)["ior"].tolist() == pytest.approx([0.1])


def test_augmentation_counts_where_it_was_left_out_too() -> None:
    table = runs(
        synthetic_hard=(0.5,), random_hard=(0.4,), synthetic_hard_plain=(0.3,), random_hard_plain=(0.32,)
    )
    assert scores(table)["ars"].tolist() == pytest.approx([augmentation_robust_score(0.1, -0.02)])


def test_the_sweep_over_weights_ends_in_one_side_alone() -> None:
    table = runs(full_hard=(0.8,), synthetic_hard=(0.5,), random_hard=(0.4,))
    by = sweep(table).set_index("weight")["lrs"]
    assert by[0.0] == pytest.approx(label_robust_score(0.3, 0, weight=0))
    assert by[1.0] == pytest.approx(label_robust_score(0, 0.1, weight=1))
