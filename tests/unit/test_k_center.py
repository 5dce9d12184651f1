"""k-center: the picks of a plain float64 loop, ties, the first pick, and the radius."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from winnow.select.engine.choice import order_of_value
from winnow.select.engine.farthest import farthest_first, most_central
from winnow.select.engine.subset import Subset, View
from winnow.select.k_center import RELEASED, KCenterParams, select

RANDOM = np.random.default_rng(0)


def choose(
    rows: np.ndarray, budget: int | None, labels: np.ndarray | None = None, **params: object
) -> Subset:
    view = View(len(rows), np.full(len(rows), -1) if labels is None else labels, {"features": rows})
    return select(view, budget, np.random.default_rng(7), KCenterParams(**params))  # type: ignore[arg-type]


def distances(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return np.linalg.norm(rows[:, None] - rows[None], axis=2)


def plain(rows: np.ndarray, budget: int, first: int) -> list[int]:
    """Farthest-first as the books have it: a running minimum, the first of the largest."""
    matrix = distances(rows)
    order, nearest = [first], matrix[first].copy()
    while len(order) < budget:
        nearest[order] = -1
        order.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, matrix[order[-1]])
    return order


def clustered(n: int, d: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(5, d))[random.integers(5, size=n)] + 0.3 * random.normal(size=(n, d))
    return rows.astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("d", [1, 2, 17, 64])
def test_picks_are_those_of_the_plain_loop(seed: int, d: int) -> None:
    for rows in (clustered(150, d, seed), np.random.default_rng(seed).random((150, d)).astype(np.float32)):
        first = int(np.argmin(np.linalg.norm(rows - rows.mean(axis=0, dtype=np.float64), axis=1)))
        assert choose(rows, 150).index.tolist() == plain(rows, 150, first)


def test_ties_go_to_the_lowest_position() -> None:
    grid = np.array(list(itertools.product(range(4), repeat=2)), np.float32)
    rows = np.repeat(grid, 3, axis=0)
    for first in (0, 5, 47):
        order, _ = farthest_first(rows, rows, len(rows), first)
        assert order.tolist() == plain(rows, len(rows), first)


def test_radius_is_the_largest_distance_to_a_centre_and_at_most_twice_the_best() -> None:
    for seed in range(5):
        rows = np.random.default_rng(seed).normal(size=(11, 2)).astype(np.float32)
        matrix = distances(rows)
        chosen = choose(rows, 3)
        radius = chosen.facts["groups"][0]["radius"]
        assert radius == pytest.approx(matrix[:, chosen.index].min(axis=1).max(), rel=1e-5)
        best = min(matrix[:, list(s)].min(axis=1).max() for s in itertools.combinations(range(11), 3))
        assert best <= radius * (1 + 1e-6) and radius <= 2 * best


def test_radius_is_zero_when_every_example_is_a_centre() -> None:
    assert choose(clustered(20, 3, 0), 20).facts["groups"][0]["radius"] == 0


def test_released_differs_in_the_first_pick_only() -> None:
    rows = clustered(120, 8, 1)
    released = choose(rows, 40, **RELEASED).index.tolist()
    assert released[0] == order_of_value(rows)[np.random.default_rng(7).integers(120)]
    assert released == plain(rows, 40, released[0])
    assert released != choose(rows, 40).index.tolist()


def test_most_central_is_the_row_with_the_smallest_mean_divergence() -> None:
    a, b = RANDOM.normal(size=(2, 60, 5)).astype(np.float32)
    mean = np.einsum("ijc,ijc->i", a[:, None] - a[None], b[:, None] - b[None])
    assert most_central(a, b) == np.argmin(mean)


def test_quotas_give_every_class_its_own_traversal() -> None:
    rows, labels = clustered(90, 4, 2), np.repeat([0, 1, 2], [15, 30, 45])
    index = choose(rows, 30, labels, quotas="labels").index
    assert np.bincount(labels[index]).tolist() == [5, 10, 15]
    members = np.flatnonzero(labels == 1)
    alone = members[choose(rows[members], 10).index]
    assert [i for i in index if labels[i] == 1] == alone.tolist()
