"""Greedy and double greedy for the cut, against brute force and finite differences."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from winnow.select.engine.graph_cut import cut_value, double_greedy, greedy
from winnow.select.engine.similarity import InnerProducts


def points(n: int, d: int = 6, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32) + 0.4
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def mask_value(rows: np.ndarray, chosen: list[int], threshold: float | None = 0.0) -> float:
    """F from its definition on the full matrix: S[outside, inside].sum()."""
    s = rows.astype(np.float64) @ rows.T
    if threshold is not None:
        s = np.where(s < threshold, 0, s)
    inside = np.isin(np.arange(len(rows)), chosen)
    return float(s[np.ix_(~inside, inside)].sum())


@pytest.mark.parametrize("seed", range(5))
def test_gains_are_finite_differences_of_the_cut(seed: int) -> None:
    rows = points(30, seed=seed)
    order, gains = greedy(InnerProducts(rows, 0.0, 1.0), 30)
    for step in range(30):
        difference = mask_value(rows, list(order[: step + 1])) - mask_value(rows, list(order[:step]))
        assert gains[step] == pytest.approx(difference, abs=1e-4)
    assert sorted(order) == list(range(30))


@pytest.mark.parametrize("seed", range(5))
def test_each_pick_is_the_best_of_all_by_brute_force(seed: int) -> None:
    rows = points(14, seed=seed)
    order, _ = greedy(InnerProducts(rows, 0.0, 1.0), 10)
    chosen: list[int] = []
    for pick in order:
        values = {i: mask_value(rows, [*chosen, i]) for i in range(14) if i not in chosen}
        assert values[pick] >= max(values.values()) - 1e-5
        chosen.append(int(pick))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [1, 3, 5])
def test_never_beats_the_brute_force_optimum_and_stays_near_it(seed: int, size: int) -> None:
    rows = points(9, seed=seed)
    order, gains = greedy(InnerProducts(rows, 0.0, 1.0), size)
    best = max(mask_value(rows, list(c)) for c in combinations(range(9), size))
    assert gains.sum() == pytest.approx(mask_value(rows, list(order)), abs=1e-4)
    assert 0.63 * best <= gains.sum() <= best + 1e-4


def test_running_sum_equals_the_mask_form() -> None:
    rows = points(50)
    similarity = InnerProducts(rows, 0.0, 1.0)
    order, gains = greedy(similarity, 20)
    assert cut_value(similarity, order) == pytest.approx(gains.sum(), rel=1e-5)
    assert mask_value(rows, list(order)) == pytest.approx(gains.sum(), rel=1e-5)


def test_ties_go_to_the_lowest_position() -> None:
    rows = np.eye(4, dtype=np.float32)
    order, _ = greedy(InnerProducts(rows, 0.0, 1.0), 4)
    assert order.tolist() == [0, 1, 2, 3]


def test_two_equal_orthogonal_clusters_alternate() -> None:
    rows = np.repeat(np.eye(2, dtype=np.float32), 6, axis=0)
    order, _ = greedy(InnerProducts(rows, 0.0, 1.0), 12)
    clusters = (order >= 6).astype(int)
    assert (clusters[0::2] != clusters[1::2]).all()


def test_streamed_columns_equal_the_dense_block() -> None:
    rows = points(300, 16)
    dense, streamed = InnerProducts(rows, 0.0, 1.0), InnerProducts(rows, 0.0, 1e-6)
    assert dense.dense is not None and streamed.dense is None
    assert np.allclose(dense.row_sums(True), streamed.row_sums(True), rtol=1e-5)
    assert np.allclose(dense.diagonal(), streamed.diagonal(), atol=1e-6)
    assert (greedy(dense, 120)[0] == greedy(streamed, 120)[0]).mean() > 0.98


def test_threshold_removes_negative_similarities_only() -> None:
    rows = np.array([[1, 0], [-1, 0], [0.6, 0.8]], np.float32)
    cut, raw = InnerProducts(rows, 0.0, 1.0), InnerProducts(rows, None, 1.0)
    assert np.allclose(cut.column(0), [1, 0, 0.6])
    assert np.allclose(raw.column(0), [1, -1, 0.6])
    assert np.allclose(cut.row_sums(False), cut.row_sums(True) - 1)


def reference_double_greedy(rows: np.ndarray, chosen: list[int]) -> list[int]:
    """Buchbinder et al. 2012, algorithm 1, on set values alone."""
    grown: list[int] = []
    shrunk = list(chosen)
    for u in chosen:
        added = mask_value(rows, [*grown, u]) - mask_value(rows, grown)
        without = [i for i in shrunk if i != u]
        dropped = mask_value(rows, without) - mask_value(rows, shrunk)
        if added >= dropped - 1e-9:
            grown.append(u)
        else:
            shrunk = without
    return grown


@pytest.mark.parametrize("seed", range(6))
def test_double_greedy_equals_the_set_function_reference(seed: int) -> None:
    rows = points(24, seed=seed)
    similarity = InnerProducts(rows, 0.0, 1.0)
    for size in (6, 14, 22):
        order, _ = greedy(similarity, size)
        kept = double_greedy(similarity, order)
        assert kept.tolist() == reference_double_greedy(rows, order.tolist())


def test_double_greedy_drops_when_most_of_the_class_is_chosen() -> None:
    rows = points(24)
    similarity = InnerProducts(rows, 0.0, 1.0)
    order, gains = greedy(similarity, 22)
    kept = double_greedy(similarity, order)
    assert len(kept) < 22
    assert cut_value(similarity, kept) > gains.sum()
    assert len(double_greedy(similarity, order[:4])) == 4
