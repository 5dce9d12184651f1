"""SemDeDup against its definition: planted duplicates, chains, eps, budgets, blocks."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.select.engine.clusters import unit
from winnow.select.engine.duplicates import Duplicates, deduplicate, survivors_of
from winnow.select.engine.subset import Subset, View
from winnow.select.semdedup import SemDeDupParams, select


def view_of(rows: np.ndarray, memory_gb: float = 2.0) -> View:
    return View(len(rows), np.full(len(rows), -1), {"embeddings": rows}, memory_gb=memory_gb)


def run(rows: np.ndarray, budget: int | None, memory_gb: float = 2.0, **params: object) -> Subset:
    settings = SemDeDupParams(**params)  # type: ignore[arg-type]
    return select(view_of(rows, memory_gb), budget, np.random.default_rng(0), settings)


def near_duplicates(n: int = 200, d: int = 12, seed: int = 0) -> np.ndarray:
    """Half of the rows are copies of the other half, some exact, some by chains of small steps."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(n, d))
    for i in range(n // 2, n):
        rows[i] = rows[random.integers(i)] + random.choice([0, 0.2, 0.4]) * random.normal(size=d)
    return rows.astype(np.float32)


def reference(rows: np.ndarray, order: np.ndarray, eps: float, rule: str) -> set[int]:
    points, stay = unit(rows).astype(np.float64), []
    for k, j in enumerate(order):
        rivals = stay if rule == "against_kept" else order[:k]
        if all(points[i] @ points[j] <= 1 - eps for i in rivals):
            stay.append(j)
    return set(map(int, stay))


@pytest.mark.parametrize("rule", ["against_kept", "against_all"])
@pytest.mark.parametrize("eps", [0.005, 0.05, 0.3, 0.8])
@pytest.mark.parametrize("memory_gb", [2.0, 1e-6])
def test_survivors_are_those_of_the_definition(rule: str, eps: float, memory_gb: float) -> None:
    rows = near_duplicates()
    orders = np.split(np.random.default_rng(1).permutation(200), [60, 61, 130])
    found = Duplicates(rows, orders, memory_gb)
    expected = set().union(*(reference(rows, order, eps, rule) for order in orders))
    assert set(survivors_of(found, eps, rule)) == expected  # type: ignore[arg-type]


def test_blocks_do_not_change_the_result() -> None:
    rows = near_duplicates()
    for rule in ("against_kept", "against_all"):
        blocks, full = (run(rows, 90, memory_gb=gb, chain_rule=rule) for gb in (1e-6, 2.0))
        assert blocks.index.tolist() == full.index.tolist()


def test_a_chain_loses_its_middle_or_all_but_its_first() -> None:
    angles = np.deg2rad([0, 20, 40])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = Duplicates(rows, [np.array([0, 1, 2])], 2.0)
    eps = 1 - np.cos(np.deg2rad(30))
    assert survivors_of(found, eps, "against_kept").tolist() == [0, 2]
    assert survivors_of(found, eps, "against_all").tolist() == [0]
    assert sorted(deduplicate(found, 2, "against_kept")[0]) == [0, 2]


@pytest.mark.parametrize("rule", ["against_kept", "against_all"])
def test_pairs_at_cosine_one_lose_exactly_one_member(rule: str) -> None:
    half = np.random.default_rng(2).normal(size=(500, 32))
    rows = np.concatenate([half, 3 * half]).astype(np.float16)
    for chosen in (run(rows, 1000, chain_rule=rule, eps=0.0), run(rows, 500, chain_rule=rule)):
        assert sorted(chosen.index % 500) == list(range(500))


def test_eps_zero_removes_nothing_but_exact_duplicates() -> None:
    rows = near_duplicates()
    distinct = len(np.unique(rows, axis=0))
    assert len(run(rows, 200, eps=0.0).index) == distinct < 200


@pytest.mark.parametrize("budget", [1, 40, 100, 150, 199])
def test_budget_against_the_kept_is_met_at_the_largest_eps_that_allows_it(budget: int) -> None:
    rows = near_duplicates()
    found = Duplicates(rows, [np.arange(200)], 2.0)
    chosen, eps = deduplicate(found, budget, "against_kept")
    stay = reference(rows, np.arange(200), eps, "against_kept")
    assert len(set(chosen)) == budget <= len(stay)
    assert set(chosen) <= stay
    assert len(stay) - budget <= 2 or eps < 2e-6, "a larger eps would have cut less by rank"
    assert found.scores[list(stay - set(chosen))].min(initial=2) >= found.scores[chosen].max()


@pytest.mark.parametrize("rule", ["against_kept", "against_all"])
def test_the_eps_of_a_budget_gives_that_budget_back(rule: str) -> None:
    rows = np.random.default_rng(5).normal(size=(200, 12)).astype(np.float32)
    chosen = run(rows, 120, chain_rule=rule)
    again = run(rows, 200, chain_rule=rule, eps=chosen.facts["eps"])
    assert again.index.tolist() == chosen.index.tolist()


def test_against_the_kept_keeps_at_least_as_many_as_against_all() -> None:
    rows = near_duplicates()
    for eps in (0.01, 0.1, 0.4):
        kept = set(run(rows, 200, eps=eps).index)
        assert kept >= set(run(rows, 200, eps=eps, chain_rule="against_all").index)
    assert set(run(rows, 100).index) != set(run(rows, 100, chain_rule="against_all").index)


def test_hard_keeps_the_farthest_of_a_pair_and_easy_the_nearest() -> None:
    centre = np.eye(8)[0] * 10
    rows = np.stack([*(centre + 0.01 * np.eye(8)[1:5]), centre + 6 * np.eye(8)[6], centre + 5 * np.eye(8)[6]])
    points = unit(rows)
    assert points[4] @ points[5] > 0.995
    settings = {"eps": 0.005, "clusters": 1}
    assert 4 in run(rows, 6, keep="hard", **settings).index
    assert 5 not in run(rows, 6, keep="hard", **settings).index
    assert 5 in run(rows, 6, keep="easy", **settings).index
    assert 4 not in run(rows, 6, keep="easy", **settings).index


def test_score_order_and_size_agree_with_the_score() -> None:
    rows = near_duplicates()
    chosen = run(rows, 120, chain_rule="against_all")
    assert chosen.score is not None
    assert chosen.index.tolist() == chosen.score.order()[:120].tolist()
    by_eps = run(rows, 200, eps=0.05)
    assert by_eps.size == len(by_eps.index) < 200


def test_clusters_hide_duplicates_and_one_cluster_hides_none() -> None:
    random = np.random.default_rng(3)
    rows = random.normal(size=(600, 16))
    rows[300:] = rows[:300] + 0.1 * random.normal(size=(300, 16))
    for params, least in (({"clusters": 1}, 1.0), ({"cluster_size": 100}, 0.7)):
        stay = np.isin(np.arange(600), run(rows.astype(np.float16), 600, eps=0.1, **params).index)
        recall = np.mean(stay[:300] != stay[300:])
        assert recall >= least
        assert recall == least or recall < 1.0
