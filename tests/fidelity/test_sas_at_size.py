"""SAS on a class of 5,000 points against an independent float64 implementation, and on real digits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from winnow.select.engine.subset import View
from winnow.select.sas import RELEASED, SASParams, select


def view_of(rows: np.ndarray, classes: np.ndarray, fraction: float | None = None) -> View:
    n = len(rows)
    signals = {"embeddings": rows.astype(np.float32), "latent_classes": classes}
    return View(n, np.full(n, -1), signals, fraction)


def plain_greedy(rows: np.ndarray, count: int) -> tuple[list[int], float]:
    """Recompute every gain from the float64 matrix at every step; nothing is updated in place."""
    s = np.maximum(rows.astype(np.float64) @ rows.astype(np.float64).T, 0)
    np.fill_diagonal(s, 0)
    total, chosen, value = s.sum(axis=1), [], 0.0
    for _ in range(count):
        gain = total - 2 * s[:, chosen].sum(axis=1)
        gain[chosen] = -np.inf
        best = int(gain.argmax())
        value += gain[best]
        chosen.append(best)
    return chosen, value


def test_paper_order_on_5000_points_equals_the_plain_greedy() -> None:
    random = np.random.default_rng(4)
    rows = random.normal(size=(6, 128))[random.integers(6, size=5000)] + random.normal(size=(5000, 128))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    expected, value = plain_greedy(rows, 150)
    chosen = select(view_of(rows, np.zeros(5000, int)), 150, random, SASParams())
    assert (chosen.index == expected).mean() > 0.98, "only float32 near-ties may swap"
    assert chosen.facts["classes"][0]["objective"] == pytest.approx(value, rel=1e-5)


def test_on_real_digits_the_paper_reaches_a_higher_objective_than_the_released_code() -> None:
    """At equal quotas; how much the two subsets share says how large the defect is."""
    images, labels = load_digits(return_X_y=True)
    rows = images / np.linalg.norm(images, axis=1, keepdims=True) - 0.5 / 8
    random, budget = np.random.default_rng(0), round(0.4 * len(rows))
    paper = select(view_of(rows, labels), budget, random, SASParams())
    settings = SASParams(**{**RELEASED, "quotas": "exact"})
    released = select(view_of(rows, labels, 0.4), budget, random, settings)
    pairs = list(zip(paper.facts["classes"], released.facts["classes"], strict=True))
    assert all(p["chosen"] == r["chosen"] for p, r in pairs)
    assert all(p["objective"] >= r["objective"] - 1e-3 for p, r in pairs)
    assert sum(p["objective"] for p, _ in pairs) > 1.005 * sum(r["objective"] for _, r in pairs)
    shared = len(set(paper.index) & set(released.index)) / budget
    assert 0.3 < shared < 0.97
