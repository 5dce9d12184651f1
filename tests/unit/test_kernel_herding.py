"""Kernel herding: brute-force greedy on MMD, the kernel's tiles, the length scale, the reported MMD."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from winnow.select.engine import gaussian
from winnow.select.engine.gaussian import Gaussian, median_heuristic
from winnow.select.engine.subset import Subset, View
from winnow.select.kernel_herding import KernelHerdingParams, select


def choose(
    rows: np.ndarray, budget: int | None, labels: np.ndarray | None = None, **params: object
) -> Subset:
    labels = np.full(len(rows), -1) if labels is None else labels
    view = View(len(rows), labels, {"features": rows.astype(np.float32)})
    return select(view, budget, np.random.default_rng(0), KernelHerdingParams(**params))  # type: ignore[arg-type]


def kernel_matrix(rows: np.ndarray, scale: float) -> np.ndarray:
    rows = rows.astype(np.float32).astype(np.float64)
    return np.exp(-((rows[:, None] - rows[None]) ** 2).sum(axis=2) / (2 * scale**2))


def mmd(kernel: np.ndarray, index: list[int]) -> float:
    square = kernel.mean() - 2 * kernel[:, index].mean() + kernel[np.ix_(index, index)].mean()
    return float(np.sqrt(max(square, 0)))


def mixture(n: int, d: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(3, d))[random.integers(3, size=n)] * 2 + random.normal(size=(n, d))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [0.7, 2.0])
def test_every_pick_is_the_one_that_lowers_mmd_most(seed: int, scale: float) -> None:
    rows = mixture(40, 3, seed)
    kernel = kernel_matrix(rows, scale)
    chosen: list[int] = []
    for _ in range(15):
        left = [i for i in range(40) if i not in chosen]
        chosen.append(min(left, key=lambda i: mmd(kernel, [*chosen, i])))
    found = choose(rows, 15, length_scale=scale)
    assert found.index.tolist() == chosen
    assert found.facts["groups"][0]["mmd"] == pytest.approx(mmd(kernel, chosen), abs=1e-4)


def test_tiles_add_up_to_the_whole_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = mixture(50, 4, 0) + 10
    kernel = kernel_matrix(rows, 1.5)
    for tile in (7, 25, 1024):
        monkeypatch.setattr(gaussian, "TILE", tile)
        found = Gaussian(rows.astype(np.float32), 1.5)
        assert found.mean() == pytest.approx(kernel.mean(axis=1), rel=1e-5)
    assert found.column(3) == pytest.approx(kernel[3], abs=1e-5)


def test_a_group_far_from_the_rest_keeps_its_kernel() -> None:
    rows = mixture(40, 3, 5)
    rows[36:] += 3000
    kernel, found = kernel_matrix(rows, 1.5), Gaussian(rows.astype(np.float32), 1.5)
    assert found.mean() == pytest.approx(kernel.mean(axis=1), rel=1e-4)
    assert found.column(38) == pytest.approx(kernel[38], abs=1e-4)


def test_mmd_is_well_below_random() -> None:
    rows = mixture(400, 8, 1)
    chosen = choose(rows, 40)
    kernel = kernel_matrix(rows, chosen.facts["groups"][0]["length_scale"])
    random = np.random.default_rng(0)
    chance = np.mean([mmd(kernel, random.permutation(400)[:40].tolist()) for _ in range(20)])
    assert mmd(kernel, chosen.index.tolist()) < chance / 3


def test_all_examples_have_no_discrepancy() -> None:
    assert choose(mixture(60, 3, 2), 60).facts["groups"][0]["mmd"] == pytest.approx(0, abs=1e-3)


def test_median_heuristic() -> None:
    rows = np.array([[0.0], [0.0], [1.0], [3.0]])  # squares of the pairs that differ: 1 1 4 9 9
    assert median_heuristic(rows) == pytest.approx(np.sqrt(2))
    assert median_heuristic(np.ones((5, 2))) == 1


def test_median_heuristic_of_a_large_pool_is_close_and_ignores_the_order() -> None:
    rows = mixture(3000, 6, 3)
    everything = np.sqrt(np.median(cdist(rows, rows[::3], "sqeuclidean")) / 2)
    assert median_heuristic(rows) == pytest.approx(everything, rel=0.05)
    assert median_heuristic(rows[np.random.default_rng(0).permutation(3000)]) == median_heuristic(rows)


def test_quotas_share_the_budget_among_classes() -> None:
    labels = np.repeat([0, 1], [20, 40])
    index = choose(mixture(60, 3, 4), 30, labels, quotas="labels").index
    assert np.bincount(labels[index]).tolist() == [10, 20]
