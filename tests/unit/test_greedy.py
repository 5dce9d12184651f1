"""The greedy engine: gains, optimisers and similarities against brute force and definitions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from winnow.errors import UserError
from winnow.select.engine.facility_location import FacilityLocation, cluster_sizes
from winnow.select.engine.greedy import SetFunction, lazy, naive, stochastic
from winnow.select.engine.set_functions import (
    DisparityMin,
    DisparitySum,
    FeatureCoverage,
    GraphCut,
    LogDeterminant,
    Mixture,
    Redundancy,
)
from winnow.select.engine.similarity import (
    Closeness,
    Cosine,
    Distances,
    Given,
    InnerProducts,
    Similarity,
    Sparse,
    Vectors,
    decoded,
    encoded,
)

Value = Callable[[list[int]], float]


def points(n: int, seed: int, d: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def kernel(n: int, seed: int) -> np.ndarray:
    rows = points(n, seed)
    return np.exp(-((rows[:, None] - rows) ** 2).sum(axis=2) / 4).astype(np.float32)


def grid(n: int, seed: int) -> np.ndarray:
    """Similarities in quarters: sums are exact in any order, and ties are everywhere."""
    values = np.random.default_rng(seed).integers(5, size=(n, n)) / 4
    return np.maximum(values, values.T).astype(np.float32)


def cases(n: int, seed: int) -> dict[str, tuple[SetFunction, Value]]:
    """Return each function beside its value computed from the definition, float64."""
    s = kernel(n, seed)
    d, x = 1 - s.astype(np.float64), np.abs(points(n, seed))
    wide = s.astype(np.float64)

    def capped(chosen: list[int]) -> float:
        return float(np.minimum(x[chosen].sum(axis=0), 0.3 * x.sum(axis=0)).sum())

    def facility(chosen: list[int]) -> float:
        return float(wide[:, chosen].max(axis=1).sum()) if chosen else 0.0

    def cut(chosen: list[int], lam: float) -> float:
        return float(lam * wide[:, chosen].sum() - wide[np.ix_(chosen, chosen)].sum())

    def log_det(chosen: list[int]) -> float:
        block = wide[np.ix_(chosen, chosen)] + 0.1 * np.eye(len(chosen))
        return float(np.linalg.slogdet(block)[1])

    def pairs(chosen: list[int]) -> list[float]:
        return [float(d[i, j]) for i, j in combinations(chosen, 2)]

    return {
        "facility location": (FacilityLocation(Given(s)), facility),
        "cut": (GraphCut(Given(s)), lambda chosen: cut(chosen, 1.0)),
        "cut, lam 3": (GraphCut(Given(s), 3.0), lambda chosen: cut(chosen, 3.0)),
        "log det": (LogDeterminant(Given(s), 0.1), log_det),
        "sqrt": (FeatureCoverage(x), lambda chosen: float(np.sqrt(x[chosen].sum(axis=0)).sum())),
        "log": (FeatureCoverage(x, "log"), lambda chosen: float(np.log1p(x[chosen].sum(axis=0)).sum())),
        "cap": (FeatureCoverage(x, "cap", 0.3), capped),
        "min": (DisparityMin(Given(1 - s)), lambda chosen: min(pairs(chosen), default=0.0)),
        "sum": (DisparitySum(Given(1 - s)), lambda chosen: sum(pairs(chosen))),
        "mixture": (
            Mixture([(0.5, FacilityLocation(Given(s))), (2.0, GraphCut(Given(s)))]),
            lambda chosen: 0.5 * facility(chosen) + 2.0 * cut(chosen, 1.0),
        ),
    }


NAMES = list(cases(5, 0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_gains_are_differences_of_the_definition_for_every_set(name: str, seed: int) -> None:
    function, value = cases(12, seed)[name]
    chosen: list[int] = []
    for v in np.random.default_rng(seed).permutation(12):
        left = np.setdiff1d(np.arange(12), chosen)
        expected = [value([*chosen, int(j)]) - value(chosen) for j in left]
        assert function.gains(left) == pytest.approx(expected, abs=2e-6)
        function.add(int(v))
        chosen.append(int(v))


@pytest.mark.parametrize("name", ["facility location", "sqrt", "log", "cap", "cut, lam 3"])
@pytest.mark.parametrize("seed", range(3))
def test_greedy_is_within_its_bound_of_the_brute_force_optimum(name: str, seed: int) -> None:
    for budget in (2, 4):
        function, value = cases(10, seed)[name]
        order, gains = naive(function, budget)
        best = max(value(list(chosen)) for chosen in combinations(range(10), budget))
        assert gains.sum() == pytest.approx(value(order.tolist()), abs=1e-5)
        assert (1 - 1 / np.e) * best <= gains.sum() <= best + 1e-5


@pytest.mark.parametrize("name", [name for name in NAMES if cases(5, 0)[name][0].submodular])
@pytest.mark.parametrize("seed", range(4))
def test_lazy_gives_the_picks_and_gains_of_naive(name: str, seed: int) -> None:
    expected, gains = naive(cases(60, seed)[name][0], 60)
    order, lazy_gains = lazy(cases(60, seed)[name][0], 60)
    assert order.tolist() == expected.tolist()
    assert (lazy_gains == gains).all()


@pytest.mark.parametrize("seed", range(6))
def test_ties_go_to_the_lowest_position_in_both(seed: int) -> None:
    s = grid(50, seed)
    chosen: list[int] = []
    wide = s.astype(np.float64)
    for _ in range(50):
        best = wide[:, chosen].max(axis=1) if chosen else np.zeros(50)
        gains = np.maximum(wide - best[:, None], 0).sum(axis=0)
        gains[chosen] = -1
        chosen.append(int(np.argmax(gains)))
    for optimiser in (naive, lazy):
        assert optimiser(FacilityLocation(Given(s)), 50)[0].tolist() == chosen


@pytest.mark.parametrize("seed", range(3))
def test_lowered_bounds_stay_above_the_gains_and_near_them(seed: int) -> None:
    """Bounds are lowered by differences of single precision; rounding must not take them below a gain."""
    n = 1500
    s = np.clip(0.5 + 0.5 * explicit("cosine", points(n, seed, 32)), 0, 1)
    function = FacilityLocation(Given((s + s.T) / 2))
    every = np.arange(n)
    bound = function.gains(every)
    for v in np.random.default_rng(seed).permutation(n)[:40]:
        function.add(int(v), bound)
        gains = function.gains(every)
        assert (bound >= gains).all()
        assert bound == pytest.approx(gains, abs=1e-2)


def test_lazy_refuses_what_is_not_submodular() -> None:
    with pytest.raises(ValueError, match="submodular"):
        lazy(DisparitySum(Given(1 - kernel(5, 0))), 2)


class Counting(FacilityLocation):
    evaluations = 0

    def gains(self, candidates: np.ndarray) -> np.ndarray:
        self.evaluations += len(candidates)
        return super().gains(candidates)


def test_lazy_evaluates_a_small_part() -> None:
    counts = []
    for optimiser in (naive, lazy):
        function = Counting(Given(kernel(300, 0)))
        optimiser(function, 60)
        counts.append(function.evaluations)
    assert counts[0] == 300 * 60
    assert counts[1] < 0.1 * counts[0]


def test_stochastic_draws_no_pick_twice_and_with_every_example_drawn_is_exact() -> None:
    rng = np.random.default_rng(0)
    s = Given(kernel(80, 1))
    order, gains = stochastic(FacilityLocation(s), 20, rng, 0.1)
    exact, best = naive(FacilityLocation(s), 20)
    assert len(set(order)) == 20
    assert 0.85 * best.sum() <= gains.sum() <= best.sum() + 1e-9
    all_drawn, _ = stochastic(FacilityLocation(s), 20, rng, 1e-30)
    assert all_drawn.tolist() == exact.tolist()


@pytest.mark.parametrize("budget", [0, 1, 30])
def test_budgets_at_the_ends(budget: int) -> None:
    for optimiser in (naive, lazy):
        assert len(set(optimiser(FacilityLocation(Given(kernel(30, 0))), budget)[0])) == budget


@pytest.mark.parametrize("memory_gb", [0.0, 2e-6, 2e-5, 2.0])
def test_without_a_matrix_the_picks_are_the_same_whatever_the_memory(memory_gb: float) -> None:
    """Rows of small integers have exact products, so that nothing is left to rounding."""
    rows = np.random.default_rng(0).integers(-3, 4, size=(200, 5))
    expected, gains = naive(FacilityLocation(InnerProducts(rows, 0.0, 1.0)), 200)
    function = FacilityLocation(InnerProducts(rows, 0.0, 0.0), memory_gb)
    order, found = lazy(function, 200)
    assert isinstance(function.similarity, Sparse)
    assert order.tolist() == expected.tolist()
    assert found.tolist() == gains.tolist()


def test_sparse_similarities_are_those_of_the_dense_matrix_with_zeros() -> None:
    s = np.where(kernel(60, 2) > 0.3, kernel(60, 2), 0)
    sparse = Sparse.of(csr_matrix(s))
    for function in (FacilityLocation, GraphCut):
        expected, found = naive(function(Given(s)), 40), naive(function(sparse), 40)
        assert found[0].tolist() == expected[0].tolist()
        assert found[1] == pytest.approx(expected[1], abs=1e-5)


def test_nearest_keeps_the_largest_of_every_example() -> None:
    s = kernel(40, 5)
    kept = Sparse.nearest(Given(s), 6).block(np.arange(40))
    for i in range(40):
        best = np.sort(np.argsort(-s[i], kind="stable")[:6])
        assert np.flatnonzero(kept[:, i]).tolist() == best.tolist()
        assert (kept[best, i] == s[i, best]).all()
    everything = Sparse.nearest(Given(s), 100)
    assert (
        naive(FacilityLocation(everything), 40)[0].tolist()
        == naive(FacilityLocation(Given(s)), 40)[0].tolist()
    )


def explicit(kind: str, rows: np.ndarray) -> np.ndarray:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    distances = np.linalg.norm(rows[:, None] - rows, axis=2)
    return {
        "cosine": (1 + unit @ unit.T) / 2,
        "distances": distances,
        "closeness": distances.max() - distances + 0.25,
        "inner": np.maximum(rows @ rows.T, 0),
    }[kind]


def made(kind: str, rows: np.ndarray, memory_gb: float, storage: str) -> Similarity:
    settings = {"memory_gb": memory_gb, "storage": storage}
    if kind == "inner":
        return InnerProducts(rows, 0.0, **settings)  # type: ignore[arg-type]
    if kind == "closeness":
        return Closeness(Vectors(rows), offset=0.25, **settings)  # type: ignore[arg-type]
    return {"cosine": Cosine, "distances": Distances}[kind](Vectors(rows), **settings)  # type: ignore[operator,no-any-return]


@pytest.mark.parametrize("kind", ["cosine", "distances", "closeness", "inner"])
@pytest.mark.parametrize(
    ("memory_gb", "storage", "error"),
    [(1.0, "float32", 1e-6), (0.0, "float32", 1e-6), (1.0, "float16", 1e-3), (1.0, "bfloat16", 8e-3)],
)
def test_similarities_follow_their_definition(
    kind: str, memory_gb: float, storage: str, error: float
) -> None:
    rows = points(30, 4)
    expected = explicit(kind, rows)
    found = made(kind, rows, memory_gb, storage)
    error *= max(1.0, float(np.abs(expected).max()))
    assert found.block(np.array([3, 0, 29])) == pytest.approx(expected[[3, 0, 29]], abs=error)
    assert found.column(7) == pytest.approx(expected[7], abs=error)
    assert found.diagonal() == pytest.approx(expected.diagonal(), abs=error)
    assert found.row_sums() == pytest.approx(expected.sum(axis=1), abs=30 * error)
    assert found.row_sums(diagonal=False) == pytest.approx(
        (expected - np.diag(expected.diagonal())).sum(1), abs=31 * error
    )


def test_half_the_storage_is_half_the_bytes_and_fits_where_single_precision_does_not() -> None:
    rows = Vectors(points(64, 0))
    limit = 2 * 64**2 / 2**30
    assert Cosine(rows, limit).dense is None
    half = Cosine(rows, limit, "bfloat16").half
    assert half is not None and half.nbytes == 2 * 64**2


def test_bfloat16_rounds_to_nearest_and_ties_to_even() -> None:
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -0.3, 0.0], np.float32)
    expected = np.array([1.0, 1.0, 1 + 2**-6, 1 + 2**-7, -0.30078125, 0.0], np.float32)
    assert decoded(encoded(values, "bfloat16")).tolist() == expected.tolist()


def test_equal_vectors_are_at_distance_zero() -> None:
    rows = np.repeat(points(20, 0), 2, axis=0)
    distances = Distances(Vectors(rows), 0.0).block(np.arange(40))
    assert (distances[np.arange(0, 40, 2), np.arange(1, 40, 2)] == 0).all()


def test_cluster_sizes_count_the_nearest_and_earlier_picks_win_ties() -> None:
    s = kernel(50, 0)
    chosen = np.array([7, 3, 21])
    assert cluster_sizes(Given(s), chosen).tolist() == np.bincount(s[:, chosen].argmax(axis=1)).tolist()
    twice = Given(np.ones((4, 4)))
    assert cluster_sizes(twice, np.array([2, 1])).tolist() == [4, 0]


def test_log_determinant_says_what_to_do_when_memory_is_short() -> None:
    with pytest.raises(UserError, match="memory"):
        naive(LogDeterminant(Given(kernel(64, 0)), 0.1, memory_gb=20 * 64 * 8 / 2**30), 40)


def test_redundancy_is_the_log_determinants_ranking_reversed() -> None:
    s = Given(kernel(40, 3))
    right, wrong = LogDeterminant(s, 1e-3), Redundancy(s, 1e-3)
    for v in (5, 17, 30):
        right.add(v)
        wrong.add(v)
    left = np.setdiff1d(np.arange(40), [5, 17, 30])
    assert np.argsort(right.gains(left)).tolist() == np.argsort(-wrong.gains(left)).tolist()
