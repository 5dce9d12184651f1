"""Power laws: how error falls with the number of examples trained on, err = scale * n^-exponent + offset.

The law is fitted by least squares on logarithms to the geometric means over seeds, so that every size counts
alike. The exponent's interval comes from leaving out one seed at a time: the jackknife's pseudo-values are
treated as any values over seeds (`winnow.evidence.paired.mean_interval`). Without an offset they are exactly
the exponents of the single seeds. The interval describes the spread over seeds at these sizes; that a power
law may not hold between or beyond them is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.evidence.paired import mean_interval

Floats = NDArray[np.float64]

MIN_SIZES = 3
MIN_SIZES_OFFSET = 4


@dataclass(frozen=True)
class PowerLaw:
    """A fitted law; `low` and `high` bound the exponent (NaN with one seed), `interval` says how."""

    scale: float
    exponent: float
    offset: float
    low: float
    high: float
    interval: str


def fit_power_law(sizes: Floats, errors: Floats, offset: bool = False) -> PowerLaw | None:
    """Fit the law; return None for too few different sizes, an error of 0 or below, and missing values.

    Args:
        sizes: (seeds, points) numbers of examples trained on.
        errors: (seeds, points) errors, above 0.
        offset: also fit the error that stays with any number of examples (0 or more). At least 4 different
            sizes are needed then, 3 otherwise.
    """
    if not np.isfinite(errors).all() or not (errors > 0).all():
        return None
    if len(np.unique(sizes.mean(axis=0))) < (MIN_SIZES_OFFSET if offset else MIN_SIZES):
        return None
    log_sizes, log_errors = np.log(sizes), np.log(errors)
    fit = _curve if offset else _line
    log_scale, exponent, left = fit(log_sizes.mean(axis=0), log_errors.mean(axis=0))
    low, high, interval = np.nan, np.nan, "none"
    if (n := len(errors)) > 1:
        kept = ~np.eye(n, dtype=bool)
        without = [fit(log_sizes[seeds].mean(axis=0), log_errors[seeds].mean(axis=0))[1] for seeds in kept]
        pseudo = n * exponent - (n - 1) * np.array(without)
        found = mean_interval(pseudo)
        shift = exponent - pseudo.mean()
        low, high, interval = found.low + shift, found.high + shift, f"jackknife over seeds, {found.method}"
    return PowerLaw(float(np.exp(log_scale)), exponent, left, float(low), float(high), interval)


def _line(log_sizes: Floats, log_errors: Floats) -> tuple[float, float, float]:
    """Return (log scale, exponent, 0) of the straight line through the logarithms."""
    slope, level = np.polyfit(log_sizes, log_errors, 1)
    return float(level), -float(slope), 0.0


def _curve(log_sizes: Floats, log_errors: Floats) -> tuple[float, float, float]:
    """Return (log scale, exponent, offset) with the least squared log residuals, exponent and offset >= 0.

    The offset is counted in units of the smallest error. The search starts without an offset and with half of
    the largest: between the two lies a flat valley.
    """
    from scipy.optimize import least_squares

    unit = log_errors.min()

    def residuals(x: Floats) -> Floats:
        curve = np.logaddexp(x[0] - x[1] * log_sizes, unit + np.log(np.maximum(x[2], 1e-12)))
        return np.asarray(curve - log_errors)

    fits = []
    for share in (1e-6, 0.5):
        level, exponent, _ = _line(log_sizes, np.log(np.exp(log_errors) - share * np.exp(unit)))
        bounds = ([-np.inf, 0.0, 0.0], [np.inf, np.inf, 1.0])
        start = [level, max(exponent, 1e-3), share]
        fits.append(least_squares(residuals, start, bounds=bounds, x_scale="jac", xtol=1e-12, ftol=1e-12))
    log_scale, exponent, share = min(fits, key=lambda found: float(found.cost)).x
    return float(log_scale), float(exponent), float(share * np.exp(unit))
