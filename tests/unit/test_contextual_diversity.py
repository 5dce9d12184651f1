"""Contextual diversity: farthest-first on a brute-force divergence, and predictions that underflow."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.select.contextual_diversity import ContextualDiversityParams, select
from winnow.select.engine.subset import Subset, View


def choose(
    logits: np.ndarray, budget: int | None, labels: np.ndarray | None = None, **params: object
) -> Subset:
    view = View(len(logits), np.full(len(logits), -1) if labels is None else labels, {"logits": logits})
    random = np.random.default_rng(0)
    return select(view, budget, random, ContextualDiversityParams(**params))  # type: ignore[arg-type]


def divergences(logits: np.ndarray) -> np.ndarray:
    """0.5 p log(p/q) + 0.5 q log(q/p) summed over classes, for every pair."""
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    a, b = p[:, None], p[None]
    return (0.5 * a * np.log(a / b) + 0.5 * b * np.log(b / a)).sum(axis=2)


def plain(matrix: np.ndarray, budget: int) -> list[int]:
    order = [int(np.argmin(matrix.mean(axis=1)))]
    while len(order) < budget:
        nearest = matrix[:, order].min(axis=1)
        nearest[order] = -1
        order.append(int(np.argmax(nearest)))
    return order


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [2, 10, 33])
def test_picks_are_those_of_k_center_on_the_divergence(seed: int, classes: int) -> None:
    logits = np.random.default_rng(seed).normal(scale=2, size=(70, classes)).astype(np.float32)
    matrix = divergences(logits)
    chosen = choose(logits, 40)
    assert chosen.index.tolist() == plain(matrix, 40)
    assert chosen.facts["groups"][0]["radius"] == pytest.approx(
        matrix[:, chosen.index].min(axis=1).max(), rel=1e-4
    )


def test_probabilities_that_underflow_are_finite_and_far_apart() -> None:
    logits = np.zeros((6, 3), np.float32)
    logits[1, 0], logits[4, 2] = 500, 800
    with np.errstate(all="ignore"):
        assert np.isnan(divergences(logits - logits.max(axis=1, keepdims=True))).any(), "nothing underflows"
    chosen = choose(logits, 3)
    assert {1, 4} <= set(chosen.index)
    assert np.isfinite(chosen.facts["groups"][0]["radius"])
    assert sorted(choose(logits, 6).index) == list(range(6))


def test_adding_a_constant_to_an_example_changes_nothing() -> None:
    logits = np.random.default_rng(1).normal(size=(50, 5)).astype(np.float32)
    moved = logits + np.arange(50, dtype=np.float32)[:, None] % 4
    assert choose(logits, 20).index.tolist() == choose(moved, 20).index.tolist()


def test_quotas_share_the_budget_among_classes() -> None:
    labels = np.repeat([0, 1], [20, 40])
    logits = np.random.default_rng(2).normal(size=(60, 4)).astype(np.float32)
    index = choose(logits, 30, labels, quotas="labels").index
    assert np.bincount(labels[index]).tolist() == [10, 20]
