"""Power laws: exact on exact laws, and equal to the fit of every seed on noisy ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from winnow.evidence.power_law import fit_power_law

SIZES = np.array([500, 1000, 2000, 4000, 8000.0])


def noisy(error: np.ndarray, n_seeds: int, seed: int = 0, spread: float = 0.05) -> np.ndarray:
    return error * np.exp(np.random.default_rng(seed).normal(0, spread, (n_seeds, len(error))))


def pile(sizes: np.ndarray, n_seeds: int) -> np.ndarray:
    return np.tile(sizes, (n_seeds, 1))


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("n_seeds", [1, 3])
def test_an_exact_law_is_found(offset: bool, n_seeds: int) -> None:
    left = 0.04 if offset else 0.0
    law = fit_power_law(pile(SIZES, n_seeds), pile(3 * SIZES**-0.6 + left, n_seeds), offset)
    assert law is not None
    assert (law.scale, law.exponent, law.offset) == pytest.approx((3, 0.6, left), rel=1e-6)
    if n_seeds == 1:
        assert np.isnan(law.low) and np.isnan(law.high) and law.interval == "none"
    else:
        assert (law.low, law.high) == pytest.approx((0.6, 0.6))


def test_no_offset_is_found_where_there_is_none() -> None:
    law = fit_power_law(pile(SIZES, 1), pile(0.9 * SIZES**-0.35, 1), offset=True)
    assert law is not None
    assert law.offset == pytest.approx(0, abs=1e-5) and law.exponent == pytest.approx(0.35, abs=1e-3)


@pytest.mark.parametrize("n_seeds", [2, 5])
def test_interval_is_that_of_the_exponents_of_single_seeds(n_seeds: int) -> None:
    errors = noisy(0.9 * SIZES**-0.35, n_seeds)
    law = fit_power_law(pile(SIZES, n_seeds), errors)
    assert law is not None
    single = [-stats.linregress(np.log(SIZES), np.log(row)).slope for row in errors]
    low, high = stats.t.interval(0.95, n_seeds - 1, loc=np.mean(single), scale=stats.sem(single))
    assert (law.exponent, law.low, law.high) == pytest.approx((np.mean(single), low, high))


@pytest.mark.parametrize("offset", [False, True])
def test_interval_covers_the_truth_about_as_often_as_it_says(offset: bool) -> None:
    error = 3 * SIZES**-0.6 + (0.04 if offset else 0)
    laws = [fit_power_law(pile(SIZES, 5), noisy(error, 5, seed, 0.02), offset) for seed in range(60)]
    covered = sum(law is not None and law.low <= 0.6 <= law.high for law in laws)
    assert covered >= 51


@pytest.mark.parametrize(
    ("sizes", "errors", "offset"),
    [
        ([[100, 200]], [[0.2, 0.1]], False),
        ([[100, 100, 200]], [[0.2, 0.2, 0.1]], False),
        ([[100, 200, 400]], [[0.2, 0.1, 0.05]], True),
        ([[100, 200, 400]], [[0.2, 0.1, 0.0]], False),
        ([[100, 200, 400]], [[0.2, 0.1, np.nan]], False),
    ],
)
def test_too_little_to_fit_gives_no_law(sizes: list, errors: list, offset: bool) -> None:
    assert fit_power_law(np.array(sizes, float), np.array(errors, float), offset) is None
