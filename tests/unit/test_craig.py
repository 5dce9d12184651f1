"""CRAIG: medoids of explicit gradients, weights, and what the released code does differently."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.errors import UserError
from winnow.select.craig import RELEASED, CraigParams, select
from winnow.select.engine.subset import Subset, View


def view_of(n: int, seed: int = 0, classes: int = 3) -> View:
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=n)
    signals = {
        "features": random.normal(size=(n, 5)).astype(np.float32),
        "logits": random.normal(size=(n, classes)).astype(np.float32),
    }
    return View(n, labels, signals)


def run(view: View, budget: int, **params: object) -> Subset:
    return select(view, budget, np.random.default_rng(0), CraigParams(**params))  # type: ignore[arg-type]


def gradients(view: View) -> np.ndarray:
    """The outer products delta (x) [1, h] themselves, (n, C (d + 1)) float64."""
    logits = view.signals["logits"].astype(np.float64)
    delta = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    delta[np.arange(view.n), view.labels] -= 1
    inputs = np.hstack([np.ones((view.n, 1)), view.signals["features"]])
    return np.einsum("nc,nd->ncd", delta, inputs).reshape(view.n, -1)


def closeness(g: np.ndarray) -> np.ndarray:
    distances = np.linalg.norm(g[:, None] - g, axis=2)
    return distances.max() - distances


@pytest.mark.parametrize("seed", range(4))
def test_every_pick_is_a_best_one_for_the_explicit_gradients(seed: int) -> None:
    view = view_of(90, seed)
    order = run(view, 30).index
    g = gradients(view)
    for label in range(3):
        members = np.flatnonzero(view.labels == label)
        s = closeness(g[members])
        best, left = np.zeros(len(members)), np.ones(len(members), bool)
        for pick in order[view.labels[order] == label]:
            gains = np.maximum(s - best[:, None], 0).sum(axis=0)
            j = int(np.flatnonzero(members == pick)[0])
            assert left[j] and gains[j] >= gains[left].max() - 1e-4
            best, left[j] = np.maximum(best, s[:, j]), False


def test_weights_are_cluster_sizes_and_add_up_to_n() -> None:
    view = view_of(120)
    chosen = run(view, 24)
    g = gradients(view)
    expected = np.zeros(120)
    for i in range(120):
        same = chosen.index[view.labels[chosen.index] == view.labels[i]]
        expected[same[np.argmin(np.linalg.norm(g[same] - g[i], axis=1))]] += 1
    assert chosen.weight.sum() == 120
    assert chosen.weight.tolist() == expected[chosen.index].tolist()


def test_released_weights_add_up_to_n_plus_k() -> None:
    view = view_of(120)
    plain = run(view, 24)
    released = run(view, 24, **dict(RELEASED, mean_loss_batch=0))
    assert released.weight.sum() == 120 + 24
    assert released.index.tolist() == plain.index.tolist()


def test_released_batches_favour_the_last_examples_of_a_class() -> None:
    """136 = 128 + 8 examples: the last 8 gradients are 16 times as long."""
    random = np.random.default_rng(0)
    signals = {
        "features": random.normal(size=(136, 8)).astype(np.float32),
        "logits": random.normal(size=(136, 4)).astype(np.float32),
    }
    view = View(136, np.zeros(136, np.int64), signals)
    released, paper = run(view, 14, **RELEASED), run(view, 14)
    assert (released.index >= 128).sum() >= 5
    assert (paper.index >= 128).sum() <= 3


def test_equal_gradients_share_a_pick() -> None:
    """Three gradients, 20 times each: three picks serve all, whatever more is asked for."""
    random = np.random.default_rng(1)
    signals = {
        "features": np.repeat(random.normal(size=(3, 4)), 20, axis=0).astype(np.float32),
        "logits": np.repeat(random.normal(size=(3, 2)), 20, axis=0).astype(np.float32),
    }
    view = View(60, np.zeros(60, np.int64), signals)
    chosen = run(view, 5)
    assert sorted(chosen.weight.tolist()) == [0, 0, 20, 20, 20]
    assert sorted(chosen.index[:3] // 20) == [0, 1, 2]


def test_an_example_without_a_label_is_refused() -> None:
    view = view_of(20)
    view.labels[4] = -1
    with pytest.raises(UserError, match="label"):
        run(view, 5)
