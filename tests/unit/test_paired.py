from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from evidence_table import rows, table
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

from winnow.errors import UserError
from winnow.evidence.paired import (
    compare,
    compare_ratio,
    correlate,
    holm,
    mean_interval,
    summary,
)


def series(*values: float) -> pd.Series:
    return pd.Series(values, index=range(len(values)), dtype=float)


def numbers(comparison):
    return [
        comparison.effect,
        comparison.ci_low,
        comparison.ci_high,
        comparison.p_value,
        comparison.dz,
    ]


# Differences 1, 2, 3: mean 2, sd 1, standard error 1/sqrt(3); t with 2 degrees of freedom has the closed
# distribution function 1/2 + t / (2 sqrt(2 + t^2)) and the 97.5 % quantile 4.302653.
def test_compare_matches_hand_worked_numbers():
    found = compare(series(11, 12, 13), series(10, 10, 10), margin=1.0, alternative="greater")
    half = 4.302652729749464 / math.sqrt(3)
    t = (2 - 1) * math.sqrt(3)
    p = 0.5 - t / (2 * math.sqrt(2 + t * t))
    assert numbers(found) == pytest.approx([2, 2 - half, 2 + half, p, 2.0])
    assert (found.n, found.mean_arm, found.mean_baseline) == (3, 12, 10)
    assert (found.interval, found.test) == ("paired t, 95%", "one-sided paired t")
    assert found.p_opposite == pytest.approx(1 - p)


@pytest.mark.parametrize("n", [3, 5, 12])
@pytest.mark.parametrize("margin", [-0.02, 0.0, 0.03])
def test_compare_matches_scipy_and_statsmodels(n, margin):
    rng = np.random.default_rng(n)
    arm, baseline = rng.normal(0.7, 0.02, n), rng.normal(0.68, 0.02, n)
    found = compare(pd.Series(arm), pd.Series(baseline), margin=margin, alternative="greater")
    assert found.p_value == pytest.approx(
        stats.ttest_rel(arm, baseline + margin, alternative="greater").pvalue
    )
    peer = DescrStatsW(arm - baseline)
    assert found.p_value == pytest.approx(peer.ttest_mean(margin, alternative="larger")[1])
    assert [found.ci_low, found.ci_high] == pytest.approx(peer.tconfint_mean(0.05))
    assert found.dz == pytest.approx((arm - baseline).mean() / (arm - baseline).std(ddof=1))


def test_interval_covers_the_truth_in_95_percent_of_2000_samples():
    rng = np.random.default_rng(7)
    truth, trials = 0.04, 2000
    covered = rejected = 0
    for _ in range(trials):
        shared = rng.normal(0.6, 0.1, 5)  # a seed's luck, which both arms share: pairing removes it
        arm, baseline = (
            shared + truth + rng.normal(0, 0.01, 5),
            shared + rng.normal(0, 0.01, 5),
        )
        found = compare(pd.Series(arm), pd.Series(baseline), margin=truth, alternative="greater")
        covered += found.ci_low <= truth <= found.ci_high
        rejected += found.p_value < 0.05
    assert covered in range(*map(int, stats.binom.interval(0.999, trials, 0.95)))
    assert rejected in range(*map(int, stats.binom.interval(0.999, trials, 0.05)))


def test_exchanging_the_arms_mirrors_the_result():
    a, b = series(0.71, 0.74, 0.69, 0.73), series(0.70, 0.70, 0.70, 0.69)
    one = compare(a, b, margin=0.01, alternative="greater")
    other = compare(b, a, margin=-0.01, alternative="less")
    assert numbers(other) == pytest.approx([-one.effect, -one.ci_high, -one.ci_low, one.p_value, -one.dz])


def test_order_of_seeds_does_not_matter_but_pairing_does():
    a, b = series(0.71, 0.74, 0.69, 0.73), series(0.70, 0.72, 0.70, 0.69)
    kept = compare(a, b, margin=0.0, alternative="greater")
    assert (
        compare(
            a.iloc[[2, 0, 3, 1]],
            b.iloc[[1, 3, 0, 2]],
            margin=0.0,
            alternative="greater",
        )
        == kept
    )
    swapped = pd.Series(b.to_numpy(), index=[1, 0, 3, 2])
    repaired = compare(a, swapped, margin=0.0, alternative="greater")
    assert repaired.effect == pytest.approx(kept.effect)
    assert repaired.p_value != pytest.approx(kept.p_value, rel=0.05)


def test_unpaired_seeds_are_an_error_that_names_them():
    b = pd.Series([0.1, 0.2, 0.3], index=[1, 2, 7])
    with pytest.raises(UserError, match=r"seed\(s\) 0, 7 are in one arm only"):
        compare(series(0.1, 0.2, 0.3), b, margin=0.0, alternative="greater")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (pd.Series([0.1, 0.2, 0.3], index=[0, 1, 1]), "more than one value for seed"),
        (pd.Series([0.1, np.nan, 0.3]), "not finite"),
        (pd.Series([0.1, np.inf, 0.3]), "not finite"),
        (pd.Series([], dtype=float), "paired by seed"),
    ],
)
def test_broken_input_is_an_error(bad, message):
    with pytest.raises(UserError, match=message):
        compare(bad, bad, margin=0.0, alternative="greater")


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_seeds_give_an_effect_and_no_test(n):
    found = compare(series(*[0.9] * n), series(*[0.1] * n), margin=0.0, alternative="greater")
    assert found.effect == pytest.approx(0.8)
    assert (found.ci_low, found.ci_high, found.p_value, found.p_opposite) == (
        None,
        None,
        None,
        None,
    )
    assert f"too few seeds ({n}" in found.note


@pytest.mark.parametrize(("difference", "p", "opposite"), [(0.1, 2**-6, 1), (0.03, 1, 1), (0.0, 1, 2**-6)])
def test_equal_differences_are_decided_by_the_sign_test(difference, p, opposite):
    baseline = np.array([0.61, 0.63, 0.6, 0.59, 0.7, 0.33])  # 0.63 - 0.6 is not 0.03 in binary
    found = compare(
        pd.Series(baseline + difference),
        pd.Series(baseline),
        margin=0.03,
        alternative="greater",
    )
    assert (found.p_value, found.p_opposite, found.dz) == (p, opposite, None)
    assert found.ci_low == found.ci_high == found.effect == pytest.approx(difference)
    assert "equal" in found.interval and "sign test" in found.test
    mirror = compare(
        pd.Series(baseline),
        pd.Series(baseline + difference),
        margin=-0.03,
        alternative="less",
    )
    assert (mirror.p_value, mirror.p_opposite) == (p, opposite)
    swapped = compare(
        pd.Series(baseline + difference),
        pd.Series(baseline),
        margin=0.03,
        alternative="less",
    )
    assert (swapped.p_value, swapped.p_opposite) == (opposite, p)


def test_ratio_is_geometric_and_matches_hand_worked_numbers():
    found = compare_ratio(series(2, 4, 8), series(1, 1, 1), margin=1.0, alternative="greater")
    half = 4.302652729749464 * math.log(2) / math.sqrt(3)  # log ratios log 2 times 1, 2, 3
    expected = [4.0, math.exp(2 * math.log(2) - half), math.exp(2 * math.log(2) + half)]
    assert [found.effect, found.ci_low, found.ci_high] == pytest.approx(expected)
    assert (found.mean_arm, found.mean_baseline) == (pytest.approx(14 / 3), 1)
    assert found.p_value == pytest.approx(
        stats.ttest_1samp(np.log([2, 4, 8]), 0, alternative="greater").pvalue
    )
    inverse = compare_ratio(series(1, 1, 1), series(2, 4, 8), margin=1.0, alternative="less")
    assert inverse.effect == pytest.approx(1 / 4)
    assert inverse.p_value == pytest.approx(found.p_value)


def test_ratio_with_too_few_seeds_and_of_zero():
    found = compare_ratio(series(2, 4), series(1, 1), margin=1.0, alternative="greater")
    assert found.effect == pytest.approx(math.sqrt(8))
    assert (found.ci_low, found.p_value) == (None, None)
    with pytest.raises(UserError, match="positive"):
        compare_ratio(series(1, 0, 2), series(1, 1, 1), margin=1.0, alternative="greater")


def test_pearson_matches_scipy_and_hand_worked_numbers():
    x, y = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 1, 4, 3, 5])
    found = correlate(x, y, margin=0.5)
    r = 0.8  # both have sum of squares 10 and their cross product is 8
    z, error = 0.5 * math.log((1 + r) / (1 - r)), 1 / math.sqrt(2)
    bounds = [
        math.tanh(z - 1.959963984540054 * error),
        math.tanh(z + 1.959963984540054 * error),
    ]
    assert [found.effect, found.ci_low, found.ci_high] == pytest.approx([r, *bounds])
    peer = stats.pearsonr(x, y).confidence_interval(0.95)
    assert [found.ci_low, found.ci_high] == pytest.approx([peer.low, peer.high])
    distance = (z - 0.5 * math.log(1.5 / 0.5)) / error
    assert found.p_value == pytest.approx(0.5 * math.erfc(distance / math.sqrt(2)))
    assert found.p_value + found.p_opposite == pytest.approx(1)


def test_spearman_sees_ranks_only_and_is_wider():
    x, y = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 1, 4, 3, 5])
    found = correlate(x, np.exp(y), margin=0.0, coefficient="spearman")
    pearson = correlate(x, y, margin=0.0)
    assert found.effect == pytest.approx(pearson.effect)
    assert found.ci_low < pearson.ci_low and found.ci_high > pearson.ci_high


def test_correlation_without_enough_evidence():
    line = np.arange(3.0)
    few = correlate(line, line, margin=0.0)
    assert (few.effect, few.p_value) == (None, None) and "too few points (3" in few.note
    constant = correlate(np.ones(5), np.arange(5.0), margin=0.0)
    assert constant.p_value is None and "constant" in constant.note
    perfect = correlate(np.arange(5.0), np.arange(5.0), margin=0.9)
    assert numbers(perfect)[:4] == pytest.approx([1, 1, 1, 0])
    with pytest.raises(UserError, match="not finite"):
        correlate(np.array([1, 2, 3, np.nan]), np.arange(4.0), margin=0.0)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.6 times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.6, never decreasing.
    assert holm([0.03, 0.01, 0.6, 0.02]) == pytest.approx([0.06, 0.04, 0.6, 0.06])
    assert holm([0.01]) == pytest.approx([0.01])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_holm_keeps_the_family_error_at_5_percent():
    """Four true null hypotheses: some p below 0.05 in 18.5 % of families, some corrected p in at most 5 %."""
    rng = np.random.default_rng(11)
    trials, raw, corrected = 100, 0, 0
    for _ in range(trials):
        p_values = []
        for d in rng.normal(0.03, 0.01, (4, 5)):
            found = compare(pd.Series(d), pd.Series(np.zeros(5)), margin=0.03, alternative="greater")
            p_values.append(found.p_value)
        raw += min(p_values) < 0.05
        corrected += min(holm(p_values)) < 0.05
    assert raw >= stats.binom.ppf(0.001, trials, 1 - 0.95**4)
    assert stats.binom.ppf(0.001, trials, 0.04) <= corrected <= stats.binom.ppf(0.999, trials, 0.05)


def test_mean_interval_names_its_method():
    rng = np.random.default_rng(3)
    few, many = rng.exponential(size=8), rng.exponential(size=40)
    t, bca = mean_interval(few), mean_interval(many)
    assert [t.low, t.high] == pytest.approx(DescrStatsW(few).tconfint_mean())
    assert (t.method, bca.method) == ("t", "BCa bootstrap")
    assert bca.low < many.mean() < bca.high
    wide = DescrStatsW(many).tconfint_mean()
    assert (bca.high - bca.low) == pytest.approx(wide[1] - wide[0], rel=0.25)
    assert bca.high - many.mean() > many.mean() - bca.low  # right-skewed data: BCa leans right
    assert mean_interval(many) == bca
    assert mean_interval(np.full(4, 0.5)).method == "all values equal"
    assert mean_interval(np.array([0.5])).method == "none"


def test_summary_by_hand():
    full = rows("full", [0.9], fraction=1.0, variant=None)
    found = summary(table(rows("sas", [0.5, 0.6, 0.7]), full)).set_index("arm")
    half = 4.302652729749464 * 0.1 / math.sqrt(3)
    names = ["n_seeds", "mean", "sd", "ci_low", "ci_high"]
    assert found.loc["sas", names].tolist() == pytest.approx([3, 0.6, 0.1, 0.6 - half, 0.6 + half])
    assert found.loc["full", ["n_seeds", "mean", "interval"]].tolist() == [
        1,
        0.9,
        "none",
    ]
    assert found.loc["full", ["sd", "ci_low", "ci_high"]].isna().all()


def test_summary_keeps_cells_apart_and_ignores_row_order():
    parts = [
        rows("sas", [0.5, 0.6], fraction=0.1 + 0.2),
        rows("sas", [0.5, 0.6], length="steps"),
        rows("sas", [0.5, 0.6], metric="loss"),
        rows("sas", [0.5, 0.6], dataset="other"),
        rows(
            "sas",
            np.random.default_rng(0).random(25).tolist(),
            variant="released",
            dataset="third",
        ),
    ]
    metrics = table(*parts)
    found = summary(metrics)
    assert len(found) == 5
    assert set(found["fraction"]) == {0.2, 0.3}
    pd.testing.assert_frame_equal(summary(metrics.sample(frac=1, random_state=1)), found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": 63.0}, "outside"),
        ({"value": -0.1}, "outside"),
        ({"value": np.nan}, "not finite"),
        ({"metric_version": 2}, "versions 1, 2"),
        ({"seed": 0}, "two rows"),
    ],
)
def test_summary_refuses_broken_tables(change, message):
    metrics = table(rows("sas", [0.5, 0.6]))
    for name, value in change.items():
        metrics.loc[1, name] = value
    with pytest.raises(UserError, match=message):
        summary(metrics)


def test_summary_names_missing_columns():
    with pytest.raises(UserError, match="missing: length, seed"):
        summary(table(rows("sas", [0.5])).drop(columns=["seed", "length"]))
