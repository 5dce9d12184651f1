"""Density-based pruning: the quadratic program against scipy, its rounding, and what is kept."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize

from winnow.select.density_pruning import (
    DensityPruningParams,
    allocate,
    mean_neighbour_distance,
    project,
    select,
    softmax,
)
from winnow.select.engine.clusters import kmeans, unit
from winnow.select.engine.subset import Subset, View

RELEASED = {"tau": 0.5, "lower_bound": 0.5}


def run(rows: np.ndarray, budget: int | None, **params: object) -> Subset:
    view = View(len(rows), np.full(len(rows), -1), {"embeddings": rows})
    settings = DensityPruningParams(**params)  # type: ignore[arg-type]
    return select(view, budget, np.random.default_rng(0), settings)


def uneven(seed: int = 0) -> np.ndarray:
    """Two wide and four narrow groups of different sizes."""
    random = np.random.default_rng(seed)
    centres = unit(random.normal(size=(6, 10)))
    spreads, sizes = [1.5, 1.0, 0.1, 0.1, 0.2, 0.05], [40, 70, 50, 90, 20, 30]
    groups = [
        c + s / 10**0.5 * random.normal(size=(m, 10)) for c, s, m in zip(centres, spreads, sizes, strict=True)
    ]
    return np.concatenate(groups).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_projection_solves_the_program(seed: int) -> None:
    random = np.random.default_rng(seed)
    k = 8
    upper = random.integers(3, 60, size=k).astype(float)
    lower = np.minimum(random.integers(0, 4, size=k), upper)
    total = float(random.integers(lower.sum(), upper.sum() + 1))
    target = random.dirichlet(np.full(k, 0.4)) * total
    found = project(target, lower, upper, total)
    assert found.sum() == pytest.approx(total)
    assert (found >= lower - 1e-9).all() and (found <= upper + 1e-9).all()
    solved = minimize(
        lambda x: 0.5 * x @ x - target @ x,
        x0=lower + (upper - lower) * (total - lower.sum()) / (upper - lower).sum(),
        jac=lambda x: x - target,
        bounds=list(zip(lower, upper, strict=True)),
        constraints=LinearConstraint(np.ones(k), total, total),
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(found, solved.x, atol=1e-3)
    assert 0.5 * found @ found - target @ found <= solved.fun + 1e-6


def test_equal_p_without_active_bounds_is_uniform() -> None:
    found = project(np.full(5, 12.0), np.ones(5), np.full(5, 100.0), 60.0)
    np.testing.assert_allclose(found, 12.0)


@pytest.mark.parametrize("budget", [0, 1, 4, 5, 6, 23, 60, 99, 100])
@pytest.mark.parametrize("lower_bound", [0.0, 0.5, 1.0])
def test_counts_are_whole_exact_and_within_bounds(budget: int, lower_bound: float) -> None:
    sizes = np.array([50, 1, 30, 2, 17])
    p = softmax(np.array([3.0, 9.0, 0.0, 1.0, 2.0]))
    counts = allocate(p, sizes, budget, lower_bound)
    least = int(lower_bound * budget / 5)
    assert counts.sum() == budget
    assert (counts <= sizes).all() and (counts >= np.minimum(least, sizes)).all()
    if budget >= 5:
        assert (counts >= 1).all()


def test_softmax_tends_to_equal_shares_as_tau_grows() -> None:
    values = np.array([0.1, 0.5, 0.02])
    np.testing.assert_allclose(softmax(values / 1e9), 1 / 3)
    assert softmax(values / 1e-3).argmax() == 1 and softmax(values / 1e-3).max() > 0.999


def test_neighbour_distance_by_brute_force() -> None:
    centroids = unit(np.random.default_rng(1).normal(size=(7, 4)))
    found = mean_neighbour_distance(centroids, 3)
    for j in range(7):
        others = [1 - centroids[j] @ centroids[i] for i in range(7) if i != j]
        assert found[j] == pytest.approx(np.mean(sorted(others)[:3]), abs=1e-6)
    assert mean_neighbour_distance(centroids[:1], 20).tolist() == [0.0]


def test_keeps_the_members_farthest_from_their_centroid() -> None:
    rows = uneven()
    chosen = set(run(rows, 120, clusters=6).index)
    clusters = kmeans(rows, 6, np.random.default_rng(0), spherical=True, memory_gb=2.0)
    for cell, centroid in zip(clusters.members, clusters.centroids, strict=True):
        ranked = cell[np.argsort(unit(rows[cell]) @ centroid)]
        count = len(chosen & set(cell))
        assert chosen & set(cell) == set(ranked[:count])


def test_wide_clusters_keep_a_larger_share_and_tau_levels_it() -> None:
    rows = uneven()

    def shares(**params: object) -> np.ndarray:
        facts = run(rows, 100, clusters=6, **params).facts["clusters"]
        return np.array([fact["chosen"] / fact["size"] for fact in facts])

    assert np.ptp(shares(tau=0.02)) > np.ptp(shares(tau=0.5))
    counts = [fact["chosen"] for fact in run(rows, 60, clusters=6, tau=1e9).facts["clusters"]]
    assert max(counts) - min(counts) <= 1, "equal p and no active bound"


def test_paper_and_released_differ() -> None:
    rows = uneven()
    assert set(run(rows, 100, clusters=6).index) != set(run(rows, 100, clusters=6, **RELEASED).index)
