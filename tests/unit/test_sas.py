"""SAS: the paper's greedy, the released row sums, and how they differ."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from winnow.select.engine.subset import View
from winnow.select.sas import LOWEST, RELEASED, SASParams, select

RNG = np.random.default_rng(0)


def view_of(rows: np.ndarray, classes: np.ndarray, fraction: float | None = None) -> View:
    n = len(rows)
    signals = {"embeddings": rows.astype(np.float32), "latent_classes": classes}
    return View(n, np.full(n, -1), signals, fraction)


def clustered(n: int, seed: int = 0, d: int = 8) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(6, d))
    rows = centres[random.integers(6, size=n)] + 0.6 * random.normal(size=(n, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), random.integers(4, size=n)


def run(view: View, budget: int | None, **params: object) -> np.ndarray:
    return select(view, budget, np.random.default_rng(0), SASParams(**params)).index  # type: ignore[arg-type]


def released_reference(rows: np.ndarray, count: int) -> list[int]:
    """The released procedure, step by step: lazy greedy whose add step zeroes the row of the pick."""
    s = rows @ rows.T
    s = np.where(s >= 0, s, 0).astype(np.float64)
    total, chosen = s.sum(axis=1), []
    heap = [(-total[i], i) for i in range(len(s))]
    heapq.heapify(heap)
    while len(chosen) < count:
        _, i = heapq.heappop(heap)
        gain = total[i] - sum(s[j, i] for j in chosen)
        if not heap or -gain <= heap[0][0]:
            chosen.append(i)
            s[i] = 0
        else:
            heapq.heappush(heap, (-gain, i))
    return chosen


@pytest.mark.parametrize("seed", range(3))
def test_released_equals_the_released_procedure(seed: int) -> None:
    rows, _ = clustered(60, seed)
    one_class = np.zeros(60, int)
    found = run(view_of(rows, one_class, 0.5), 30, **RELEASED)
    assert found.tolist() == released_reference(rows, 30)


@pytest.mark.parametrize("seed", range(3))
def test_released_order_is_a_stable_sort_by_thresholded_row_sum(seed: int) -> None:
    rows, classes = clustered(80, seed)
    s = rows.astype(np.float32) @ rows.astype(np.float32).T
    s[s < 0] = 0
    found = run(view_of(rows, classes, 0.5), 40, **RELEASED)
    expected = []
    for k in range(4):
        members = np.flatnonzero(classes == k)
        sums = s[np.ix_(members, members)].sum(axis=1, dtype=np.float64)
        expected += members[np.argsort(-sums, kind="stable")][: int(0.5 * len(members))].tolist()
    assert found.tolist() == expected


def test_released_floors_its_quotas_and_paper_does_not() -> None:
    classes = np.repeat(np.arange(4), [37, 61, 52, 50])
    rows, _ = clustered(200)
    released = select(view_of(rows, classes, 0.2), 40, RNG, SASParams(**RELEASED))
    assert len(released.index) == released.size == 39
    assert np.bincount(classes[released.index]).tolist() == [7, 12, 10, 10]
    assert len(run(view_of(rows, classes, 0.2), 40)) == 40


def test_paper_alternates_between_orthogonal_clusters_and_released_need_not() -> None:
    rows = np.repeat(np.eye(2), 10, axis=0)
    one_class = np.zeros(20, int)
    paper = run(view_of(rows, one_class), 10, double_greedy=False)
    assert np.bincount((paper >= 10).astype(int)).tolist() == [5, 5]
    released = run(view_of(rows, one_class, 0.5), 10, **RELEASED)
    assert (released < 10).all()


def test_variants_differ_on_clustered_data() -> None:
    rows, _ = clustered(300)
    one_class = np.zeros(300, int)
    paper = set(run(view_of(rows, one_class), 120))
    released = set(run(view_of(rows, one_class, 0.4), 120, **RELEASED))
    lowest = set(run(view_of(rows, one_class), 120, **LOWEST))
    assert len(paper & released) < 115
    assert len(released & lowest) == 0


def test_refinement_keeps_the_budget_and_never_lowers_the_objective() -> None:
    rows, classes = clustered(200)
    view = view_of(rows, classes)
    dropped = 0
    for budget in (20, 80, 120, 160, 190, 200):
        chosen = select(view, budget, RNG, SASParams())
        assert len(set(chosen.index)) == budget
        for fact in chosen.facts["classes"]:
            assert fact["objective"] >= fact["greedy_objective"] - 1e-4
            dropped += fact["dropped"]
    assert dropped > 0, "no budget in this test lets double greedy drop anything"


def test_without_refinement_the_order_is_nested() -> None:
    rows, classes = clustered(120)
    full = run(view_of(rows, classes), None, double_greedy=False)
    assert sorted(full) == list(range(120))
    for budget in (0, 1, 17, 60, 119):
        assert run(view_of(rows, classes), budget, double_greedy=False).tolist() == full[:budget].tolist()


def test_released_score_says_which_end_to_keep() -> None:
    rows, classes = clustered(50)
    high = select(view_of(rows, classes, 0.4), 20, RNG, SASParams(**RELEASED)).score
    low = select(view_of(rows, classes), 20, RNG, SASParams(**LOWEST)).score
    assert high is not None and high.keep == "high"
    assert low is not None and low.keep == "low"


def test_diagonal_is_a_switch() -> None:
    rows = np.array([[2.0, 0, 0], [1, 1, 0], [1, -1, 0], [1.0, 0, 0.5]])
    one_class = np.zeros(4, int)
    settings = dict(RELEASED, quotas="exact")
    with_own = run(view_of(rows, one_class), 4, **settings)
    without = run(view_of(rows, one_class), 4, **dict(settings, diagonal=False))
    s = np.maximum(rows @ rows.T, 0)
    assert with_own.tolist() == np.argsort(-s.sum(1), kind="stable").tolist()
    assert without.tolist() == np.argsort(-(s.sum(1) - s.diagonal()), kind="stable").tolist()
