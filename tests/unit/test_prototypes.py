"""SSL prototypes: distances by brute force, both directions, class balance."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.select.engine.clusters import kmeans, unit
from winnow.select.engine.subset import Subset, View
from winnow.select.prototypes import PrototypesParams, balanced, select


def run(rows: np.ndarray, budget: int | None, labels: np.ndarray | None = None, **params: object) -> Subset:
    labels = np.full(len(rows), -1) if labels is None else labels
    view = View(len(rows), labels, {"embeddings": rows})
    settings = PrototypesParams(**params)  # type: ignore[arg-type]
    return select(view, budget, np.random.default_rng(0), settings)


def points(n: int = 200, d: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("spherical", [True, False])
def test_scores_are_one_minus_the_largest_cosine_with_a_centroid(spherical: bool) -> None:
    rows = points()
    clusters = kmeans(rows, 9, np.random.default_rng(0), spherical=spherical, memory_gb=2.0)
    found = run(rows, None, clusters=9, spherical=spherical).score
    expected = 1 - (unit(rows) @ unit(clusters.centroids).T).max(axis=1)
    assert found is not None
    np.testing.assert_allclose(found.values, expected, atol=2e-6)


def test_hard_and_easy_halves_are_complementary() -> None:
    rows = points()
    hard, easy = run(rows, 100).index, run(rows, 100, direction="easy").index
    assert sorted([*hard, *easy]) == list(range(200))


def test_a_point_on_a_centroid_has_score_zero_and_is_the_easiest() -> None:
    corners = np.eye(4, dtype=np.float32)[np.arange(40) % 4]
    found = run(corners, 4, clusters=4, direction="easy").score
    assert found is not None
    assert (found.values == 0).all()
    square = np.array([[1, 0.5, 0], [1, -0.5, 0], [1, 0, 0.5], [1, 0, -0.5], [1, 0, 0]], np.float32)
    assert run(square, 1, clusters=1, direction="easy").index.tolist() == [4]
    assert run(square, 4, clusters=1).index.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_class_balance_holds_at_every_budget(share: float) -> None:
    random = np.random.default_rng(1)
    labels = random.choice(4, size=200, p=[0.7, 0.2, 0.08, 0.02])
    order = np.argsort(labels + random.normal(size=200), kind="stable")
    found = balanced(order, labels, share)
    assert sorted(found) == list(range(200))
    sizes = np.bincount(labels)
    for m in range(1, 201):
        counts = np.bincount(labels[found[:m]], minlength=4)
        assert (counts >= np.minimum(sizes, int(share * m) // 4)).all()


def test_balanced_prefix_is_the_turns_and_the_best_of_the_rest() -> None:
    labels = np.array([0] * 8 + [1] * 4)
    order = np.arange(12)
    found = balanced(order, labels, 0.5)
    # Half of six is due to the classes in turn: 0, 8, 1; the rest goes to the best left: 2, 3, 4.
    assert sorted(found[:6]) == [0, 1, 2, 3, 4, 8]
    assert balanced(order, labels, 0.0).tolist() == order.tolist()


def test_within_a_class_the_ranking_is_that_of_the_score() -> None:
    rows, labels = points(120), np.random.default_rng(2).integers(3, size=120)
    chosen = run(rows, 60, labels, class_balance=0.5)
    assert chosen.score is not None
    for c in range(3):
        ranked = [i for i in chosen.score.order() if labels[i] == c]
        picked = set(chosen.index[labels[chosen.index] == c])
        assert picked == set(ranked[: len(picked)])
