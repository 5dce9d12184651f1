"""CAL: brute-force neighbours and divergences, and the released order."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import entropy

from winnow.select.cal import RELEASED, CALParams, neighbours_of, select
from winnow.select.engine.subset import Subset, View


def make_view(seed: int, n: int = 80, classes: int = 4) -> View:
    random = np.random.default_rng(seed)
    signals = {
        "features": (random.normal(size=(n, 6)) + 4).astype(np.float32),
        "logits": random.normal(scale=2, size=(n, classes)).astype(np.float32),
    }
    return View(n, random.integers(classes, size=n), signals)


def choose(view: View, budget: int | None, **params: object) -> Subset:
    return select(view, budget, np.random.default_rng(0), CALParams(**params))  # type: ignore[arg-type]


def nearest(features: np.ndarray, k: int) -> np.ndarray:
    distance = np.linalg.norm(features[:, None].astype(np.float64) - features[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1)[:, :k]


def scores(view: View, kind: str, k: int = 10) -> np.ndarray:
    """Means over neighbours z of x, with the library's KL: entropy(p, q) = KL(p || q)."""
    p = np.exp(view.signals["logits"].astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    forward = np.array(
        [[entropy(p[z], p[x]) for z in near] for x, near in enumerate(nearest(view.signals["features"], k))]
    )
    back = np.array(
        [[entropy(p[x], p[z]) for z in near] for x, near in enumerate(nearest(view.signals["features"], k))]
    )
    table = {"neighbour_to_example": forward, "example_to_neighbour": back, "symmetric": (forward + back) / 2}
    return table[kind].mean(axis=1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["neighbour_to_example", "example_to_neighbour", "symmetric"])
def test_scores_are_mean_divergences_to_the_nearest(seed: int, kind: str) -> None:
    view = make_view(seed)
    chosen = choose(view, 20, divergence=kind)
    expected = scores(view, kind)
    assert chosen.score is not None
    assert chosen.score.values == pytest.approx(expected, abs=1e-9)
    assert chosen.index.tolist() == np.argsort(-expected, kind="stable")[:20].tolist()


def test_neighbours_are_exact_and_leave_the_example_out() -> None:
    features = make_view(1, n=300).signals["features"]
    found = neighbours_of(features, 10)
    assert np.sort(found, axis=1).tolist() == np.sort(nearest(features, 10), axis=1).tolist()


def test_neighbours_are_exact_in_a_group_far_from_the_rest() -> None:
    features = np.random.default_rng(0).normal(size=(1200, 128)).astype(np.float32)
    features[700:] += 100
    distance = cdist(features.astype(np.float64), features.astype(np.float64))
    np.fill_diagonal(distance, np.inf)
    expected = np.argsort(distance, axis=1)[:, :10]
    assert neighbours_of(features, 10).tolist() == expected.tolist()


def test_neighbours_among_equal_rows_and_in_small_pools() -> None:
    found = neighbours_of(np.ones((30, 3), np.float32), 10)
    assert found.shape == (30, 10) and (found != np.arange(30)[:, None]).all()
    assert neighbours_of(np.eye(4, dtype=np.float32), 10).shape == (4, 3)
    assert neighbours_of(np.ones((1, 2), np.float32), 10).shape == (1, 0)


def test_released_takes_the_other_end() -> None:
    view = make_view(2)
    released = choose(view, 20, **RELEASED)
    assert released.index.tolist() == np.argsort(scores(view, "symmetric"), kind="stable")[:20].tolist()
    assert len(set(released.index) & set(choose(view, 20).index)) == 0


def test_an_example_that_contradicts_its_neighbours_comes_first() -> None:
    features = np.repeat(np.eye(2, dtype=np.float32), 20, axis=0)
    features += np.random.default_rng(0).normal(scale=1e-3, size=features.shape).astype(np.float32)
    logits = np.where(features > 0.5, 5, 0).astype(np.float32)
    logits[7] = [0, 5]
    view = View(40, np.zeros(40, np.int64), {"features": features, "logits": logits})
    assert choose(view, 1).index.tolist() == [7]
    assert 7 not in choose(view, 20, **RELEASED).index


def test_quotas_share_the_budget_among_classes() -> None:
    view = make_view(3)
    index = choose(view, 40, quotas="labels").index
    shares = np.bincount(view.labels[index], minlength=4) - np.bincount(view.labels, minlength=4) / 2
    assert (np.abs(shares) <= 1).all()
