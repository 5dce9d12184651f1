"""Paired comparisons over seeds, intervals of means, and the summary table.

The seeds of two arms share data order, initialisation and split, so arms are compared by the differences
d_i = a_i - b_i of equal seeds. The interval is Student's t interval of mean(d); the test is the one-sided
t test of d - margin. Both assume roughly normal differences; see docs/evidence.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from winnow.errors import UserError, one_of
from winnow.evidence.metrics import AXES, check_metrics

Alternative = Literal["greater", "less"]
Floats = NDArray[np.float64]

CONFIDENCE = 0.95
MIN_SEEDS = 3
MIN_POINTS = 4
MIN_BOOTSTRAP = 20
RESAMPLES = 9_999


@dataclass(frozen=True)
class Comparison:
    """An effect, its interval, and the one-sided test against a margin.

    `n` counts pairs (or points of a correlation). `p_value` tests that the effect lies beyond the margin in
    the direction of `alternative`, `p_opposite` that it lies on the other side. Interval and p values are
    None where `n` is too small, `effect` where it is undefined; `note` then says why. `dz` is
    mean(d) / sd(d), None without variance.
    """

    n: int
    effect: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    interval: str = "none"
    p_value: float | None = None
    p_opposite: float | None = None
    test: str = "none"
    dz: float | None = None
    mean_arm: float | None = None
    mean_baseline: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a mean and the method that gave it; NaN bounds where one value has none."""

    low: float
    high: float
    method: str


def compare(
    arm_values: pd.Series[float],
    baseline_values: pd.Series[float],
    *,
    margin: float,
    alternative: Alternative,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Compare two arms, both indexed by seed, by their paired differences arm - baseline.

    Fewer than 3 seeds give no interval and no p value. Equal differences have no t statistic: the interval
    is then that point and the p value that of the sign test, 2^-n beyond the margin and 1 otherwise.
    Raises `UserError` for repeated or unpaired seeds and for values that are not finite.
    """
    arm, baseline = _paired(arm_values, baseline_values)
    d = arm - baseline
    n, effect = len(d), float(d.mean())
    common = Comparison(n, effect, mean_arm=float(arm.mean()), mean_baseline=float(baseline.mean()))
    if n < MIN_SEEDS:
        return replace(common, note=f"too few seeds ({n}; at least {MIN_SEEDS} are needed)")
    # Equal differences still differ by the rounding of the values they were taken from.
    rounding = 1e-12 * max(1.0, np.abs(arm).max(), np.abs(baseline).max())
    if np.ptp(d) <= rounding:
        return _without_variance(common, margin, alternative, rounding)
    low, high = stats.ttest_1samp(d, 0.0).confidence_interval(confidence)
    opposite: Alternative = "less" if alternative == "greater" else "greater"
    return replace(
        common,
        ci_low=float(low),
        ci_high=float(high),
        interval=f"paired t, {confidence:.0%}",
        p_value=float(stats.ttest_1samp(d, margin, alternative=alternative).pvalue),
        p_opposite=float(stats.ttest_1samp(d, margin, alternative=opposite).pvalue),
        test="one-sided paired t",
        dz=effect / float(d.std(ddof=1)),
    )


def compare_within(
    arm_values: pd.Series[float], baseline_values: pd.Series[float], *, margin: float
) -> Comparison:
    """Test that two arms differ by less than the margin, by two one-sided tests (TOST; Schuirmann 1987).

    `p_value` is the larger of both, `p_opposite` the smaller of the tests that they differ by more.
    """
    over = compare(arm_values, baseline_values, margin=-margin, alternative="greater")
    under = compare(arm_values, baseline_values, margin=margin, alternative="less")
    if over.p_value is None or under.p_value is None or over.p_opposite is None or under.p_opposite is None:
        return over
    return replace(
        over,
        p_value=max(over.p_value, under.p_value),
        p_opposite=min(over.p_opposite, under.p_opposite),
        test=f"two tests, {over.test}",
    )


def compare_ratio(
    arm_values: pd.Series[float],
    baseline_values: pd.Series[float],
    *,
    margin: float,
    alternative: Alternative,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Compare two arms by the geometric mean of arm / baseline, as `compare` does on logarithms.

    `effect`, `ci_low`, `ci_high` and `margin` are ratios, means are of the values themselves, and `dz` is of
    the log ratios. Raises `UserError` unless all values and the margin are positive.
    """
    arm, baseline = _paired(arm_values, baseline_values)
    if min(arm.min(), baseline.min(), margin) <= 0:
        raise UserError("ratio: values and margin must be positive; use a difference instead.")
    logs = compare(
        arm_values.map(math.log),
        baseline_values.map(math.log),
        margin=math.log(margin),
        alternative=alternative,
        confidence=confidence,
    )
    return replace(
        logs,
        effect=_exp(logs.effect),
        ci_low=_exp(logs.ci_low),
        ci_high=_exp(logs.ci_high),
        interval=f"{logs.interval} of log ratios" if logs.ci_low is not None else logs.interval,
        test=f"{logs.test} of log ratios" if logs.p_value is not None else logs.test,
        mean_arm=float(arm.mean()),
        mean_baseline=float(baseline.mean()),
    )


def correlate(
    x: Floats,
    y: Floats,
    *,
    margin: float,
    coefficient: Literal["pearson", "spearman"] = "pearson",
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Correlate n points and test that the correlation exceeds the margin, by Fisher's z transform.

    Standard error of z: 1 / sqrt(n - 3) for Pearson, sqrt((1 + r^2 / 2) / (n - 3)) for Spearman (Bonett and
    Wright 2000). Fewer than 4 points have no interval; constant points have no correlation.
    """
    n = len(x)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UserError("correlation: a value is not finite; mend the run.")
    if n < MIN_POINTS:
        return Comparison(n, note=f"too few points ({n}; at least {MIN_POINTS} are needed)")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Comparison(n, note="one of the metrics is constant, so there is no correlation")
    r = float((stats.pearsonr if coefficient == "pearson" else stats.spearmanr)(x, y).statistic)
    error = np.sqrt((1 + (r**2 / 2 if coefficient == "spearman" else 0)) / (n - 3))
    with np.errstate(divide="ignore"):  # perfectly correlated points: z is infinite, its tanh 1
        z = np.arctanh(r)
    half = stats.norm.ppf((1 + confidence) / 2) * error
    distance = (z - np.arctanh(margin)) / error
    return Comparison(
        n,
        effect=r,
        ci_low=float(np.tanh(z - half)),
        ci_high=float(np.tanh(z + half)),
        interval=f"Fisher z, {confidence:.0%}",
        p_value=float(stats.norm.sf(distance)),
        p_opposite=float(stats.norm.cdf(distance)),
        test=f"one-sided Fisher z, {coefficient}, {n} points",
    )


def holm(p_values: list[float]) -> list[float]:
    """Return the p values corrected for multiplicity by Holm's step-down method, in the order given."""
    if not p_values:
        return []
    return [float(p) for p in multipletests(p_values, method="holm")[1]]


def mean_interval(values: Floats, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of the mean over seeds: Student's t, or the BCa bootstrap from 20 values on.

    The bootstrap draws 9,999 resamples from a fixed seed. Below 20 values it is too narrow, so t is used.
    One value has no interval; equal values have one of zero width. It may pass the ends of [0, 1].
    """
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(np.nan, np.nan, "none")
    if np.ptp(values) == 0:
        return Interval(mean, mean, "all values equal")
    if len(values) >= MIN_BOOTSTRAP:
        rng = np.random.default_rng(0)
        drawn = stats.bootstrap(
            (values,), np.mean, confidence_level=confidence, n_resamples=RESAMPLES, method="BCa", rng=rng
        )
        low, high = drawn.confidence_interval
        return Interval(float(low), float(high), "BCa bootstrap")
    low, high = stats.t.interval(confidence, len(values) - 1, loc=mean, scale=stats.sem(values))
    return Interval(float(low), float(high), "t")


def summary(metrics: pd.DataFrame) -> pd.DataFrame:
    """Summarise the long table: one row per suite, arm, method, variant, dataset, fraction, length, metric.

    Columns besides these keys: budget (mean number of examples trained on), metric_version, n_seeds, mean,
    sd, ci_low, ci_high and interval (its method).
    With one seed sd, ci_low and ci_high are NaN. What the cells cost is in `winnow.evidence.cost`.
    """
    keys = ["suite", "arm", "method", "variant", *AXES, "metric"]
    rows = []
    for place, group in check_metrics(metrics).sort_values("seed").groupby(keys, dropna=False):
        values = group["value"].to_numpy(dtype=np.float64)
        interval = mean_interval(values)
        rows.append(
            dict(zip(keys, place, strict=True))
            | {
                "budget": float(group["budget"].mean()),
                "metric_version": int(group["metric_version"].iloc[0]),
                "n_seeds": len(values),
                "mean": float(values.mean()),
                "sd": float(values.std(ddof=1)) if len(values) > 1 else np.nan,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "interval": interval.method,
            }
        )
    names = ["budget", "metric_version", "n_seeds", "mean", "sd", "ci_low", "ci_high", "interval"]
    return pd.DataFrame(rows, columns=[*keys, *names])


def _paired(arm: pd.Series[float], baseline: pd.Series[float]) -> tuple[Floats, Floats]:
    for name, values in (("arm", arm), ("baseline", baseline)):
        if values.index.has_duplicates:
            repeated = one_of(values.index[values.index.duplicated()].unique())
            raise UserError(f"comparison: {name} has more than one value for seed(s) {repeated}.")
        if not np.isfinite(values.to_numpy(dtype=np.float64)).all():
            raise UserError(f"comparison: {name} has a value that is not finite; mend the run.")
    lone = set(arm.index) ^ set(baseline.index)
    if lone or arm.empty:
        raise UserError(
            f"comparison: arms are paired by seed, and seed(s) {one_of(lone)} are in one arm only."
            " Run the missing seeds."
        )
    return _by_seed(arm), _by_seed(baseline)


def _by_seed(values: pd.Series[float]) -> Floats:
    return np.asarray(values.sort_index(), dtype=np.float64)


def _without_variance(
    common: Comparison, margin: float, alternative: Alternative, rounding: float
) -> Comparison:
    assert common.effect is not None
    distance = (common.effect - margin) * (1 if alternative == "greater" else -1)
    reached = 2.0**-common.n
    return replace(
        common,
        ci_low=common.effect,
        ci_high=common.effect,
        interval="point (all differences equal)",
        p_value=reached if distance > rounding else 1.0,
        p_opposite=reached if distance < -rounding else 1.0,
        test="sign test (all differences equal)",
        note=f"all {common.n} differences are equal, so the t test is undefined",
    )


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(value)
