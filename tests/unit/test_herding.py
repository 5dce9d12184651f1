"""Herding: the rule from its definition, the mean gap, and what the released sign does to it."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.select.engine.subset import Subset, View
from winnow.select.herding import RELEASED, HerdingParams, select


def choose(
    rows: np.ndarray, budget: int | None, labels: np.ndarray | None = None, **params: object
) -> Subset:
    labels = np.zeros(len(rows), np.int64) if labels is None else labels
    view = View(len(rows), labels, {"features": rows.astype(np.float32)})
    return select(view, budget, np.random.default_rng(0), HerdingParams(**params))  # type: ignore[arg-type]


def by_definition(rows: np.ndarray, budget: int, farthest: bool = False) -> list[int]:
    rows = rows.astype(np.float32).astype(np.float64)
    mu, order, total = rows.mean(axis=0), [], np.zeros(rows.shape[1])
    for i in range(budget):
        distance = np.linalg.norm((i + 1) * mu - total - rows, axis=1)
        distance[order] = -np.inf if farthest else np.inf
        best = int(np.argmax(distance) if farthest else np.argmin(distance))
        order.append(best)
        total += rows[best]
    return order


def gap(rows: np.ndarray, index: np.ndarray) -> float:
    return float(np.linalg.norm(rows[index].mean(axis=0) - rows.mean(axis=0)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_picks_follow_the_rule(seed: int, offset: float) -> None:
    rows = np.random.default_rng(seed).normal(size=(80, 6)) + offset
    assert choose(rows, 40).index.tolist() == by_definition(rows, 40)
    assert choose(rows, 40, **RELEASED).index.tolist() == by_definition(rows, 40, farthest=True)


@pytest.mark.parametrize("seed", range(3))
def test_mean_gap_is_far_below_random_and_the_released_one_above(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(500, 16)).astype(np.float32)
    chance = np.mean([gap(rows, random.permutation(500)[:50]) for _ in range(20)])
    paper, released = choose(rows, 50), choose(rows, 50, **RELEASED)
    assert gap(rows, paper.index) < chance / 4
    assert gap(rows, released.index) > 1.1 * chance
    assert paper.facts["groups"][0]["mean_gap"] == pytest.approx(gap(rows, paper.index), abs=1e-5)


def test_equal_rows_are_taken_in_the_order_of_the_pool() -> None:
    rows = np.repeat(np.random.default_rng(3).normal(size=(1, 37)), 50, axis=0)
    assert choose(rows, 50).index.tolist() == list(range(50))


def test_classes_are_herded_apart_unless_told_otherwise() -> None:
    random = np.random.default_rng(4)
    labels = np.repeat([0, 1], [20, 40])
    rows = random.normal(size=(60, 5)) + 3 * labels[:, None]
    index = choose(rows, 30, labels).index
    assert np.bincount(labels[index]).tolist() == [10, 20]
    ones = np.flatnonzero(labels == 1)
    assert [i for i in index if labels[i]] == ones[by_definition(rows[ones], 20)].tolist()
    assert choose(rows, 30, labels, quotas="none").index.tolist() == by_definition(rows, 30)
