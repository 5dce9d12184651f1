"""GradMatch: pursuit against dense references, weights, budgets, the released defects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls
from test_gradients import make_factors

from winnow.errors import UserError
from winnow.select.engine.gradients import Factors, mean_loss_scale
from winnow.select.engine.pursuit import pursue
from winnow.select.engine.subset import Subset, View
from winnow.select.gradmatch import RELEASED, GradMatchParams, select


def ridge_nnls(rows: np.ndarray, target: np.ndarray, lam: float) -> np.ndarray:
    """Return argmin over w >= 0 of ||target - w rows||^2 + lam ||w||^2, by SciPy on the stacked system."""
    stacked = np.concatenate([rows.T, np.sqrt(lam) * np.eye(len(rows))])
    weights: np.ndarray = nnls(stacked, np.concatenate([target, np.zeros(len(rows))]))[0]
    return weights


def dense_pursuit(
    rows: np.ndarray, target: np.ndarray, budget: int, lam: float, nonnegative: bool
) -> tuple[list[int], np.ndarray]:
    """Plain pursuit on explicit gradients: solve from scratch after every pick."""
    chosen: list[int] = []
    weights = np.empty(0)
    while len(chosen) < budget:
        gain = rows @ (target - weights @ rows[chosen])
        gain[chosen] = -np.inf
        if nonnegative and gain.max() <= 1e-12:
            break
        chosen.append(int(np.argmax(gain)))
        a = rows[chosen]
        if nonnegative:
            weights = ridge_nnls(a, target, lam)
            chosen = [i for i, w in zip(chosen, weights, strict=True) if w > 0]
            weights = weights[weights > 0]
        else:
            weights = np.linalg.solve(a @ a.T + lam * np.eye(len(a)), a @ target)
    return chosen, weights


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("lam", [1e-3, 0.5])
@pytest.mark.parametrize("nonnegative", [True, False])
def test_pursuit_equals_the_dense_reference(seed: int, lam: float, nonnegative: bool) -> None:
    factors, explicit = make_factors(60, 3, 4, seed)
    for budget in (1, 4, 12, 25):
        found = pursue(factors, factors.mean(), budget, lam, nonnegative)
        order, weight = dense_pursuit(explicit, explicit.mean(axis=0), budget, lam, nonnegative)
        assert found.order.tolist() == order
        assert found.weight == pytest.approx(weight, abs=1e-8)


def test_examples_that_turn_negative_leave_and_the_weights_stay_exact() -> None:
    left = 0
    for seed in range(20):
        factors, explicit = make_factors(60, 3, 4, seed)
        found = pursue(factors, factors.mean(), 25, 1e-3)
        exact = ridge_nnls(explicit[found.order], explicit.mean(axis=0), 1e-3)
        assert found.weight == pytest.approx(exact, abs=1e-8) and (found.weight > 0).all()
        short = pursue(factors, factors.mean(), 12, 1e-3)
        left += len(set(short.order) - set(found.order))
    assert left > 0, "no example left the support: this test tries nothing"


@pytest.mark.parametrize("nonnegative", [True, False])
@pytest.mark.parametrize("memory_gb", [2.0, 0.0])
def test_without_ridge_and_with_rank_enough_nothing_is_left(nonnegative: bool, memory_gb: float) -> None:
    factors, explicit = make_factors(80, 3, 4)
    rank = np.linalg.matrix_rank(explicit)
    found = pursue(factors, factors.mean(), 80, 0.0, nonnegative, memory_gb)
    assert rank <= 15 and len(found.order) <= 80
    assert np.linalg.norm(explicit.mean(axis=0) - found.weight @ explicit[found.order]) < 1e-10


def test_float32_reaches_its_own_rounding() -> None:
    exact, _ = make_factors(80, 3, 4)
    factors = Factors(exact.residual.astype(np.float32), exact.features.astype(np.float32))
    target = factors.mean()
    found = pursue(factors, target, 80, 0.0)
    gap = np.linalg.norm(target - factors.take(found.order).sum(found.weight))
    assert gap < 1e-5 * np.linalg.norm(target)


def test_kept_inner_products_and_the_residual_give_the_same_picks() -> None:
    factors, _ = make_factors(60, 3, 4, seed=5)
    kept, fresh = (pursue(factors, factors.mean(), 12, 0.1, memory_gb=gb) for gb in (2.0, 0.0))
    assert kept.order.tolist() == fresh.order.tolist()
    assert kept.weight == pytest.approx(fresh.weight, abs=1e-8)


def make_view(n: int, classes: int = 3, d: int = 4, seed: int = 0) -> View:
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=n)
    logits = random.normal(size=(n, classes)).astype(np.float32)
    features = random.normal(size=(n, d)).astype(np.float32)
    return View(n, labels, {"logits": logits, "features": features})


def run(view: View, budget: int | None, **params: object) -> Subset:
    return select(view, budget, np.random.default_rng(0), GradMatchParams(**params))  # type: ignore[arg-type]


def test_weighted_gradients_add_up_to_the_sum_of_every_class() -> None:
    view = make_view(150)
    factors = Factors.of(view, "test")
    chosen = run(view, 90, lam=1e-6)
    for label in range(3):
        own = view.labels[chosen.index] == label
        total = factors.take(np.flatnonzero(view.labels == label)).sum()
        found = factors.take(chosen.index[own]).sum(chosen.weight[own])
        assert np.linalg.norm(total - found) < 1e-3 * np.linalg.norm(total)


def test_budget_beyond_the_match_is_filled_with_weight_zero_by_inner_product() -> None:
    view = make_view(120)
    chosen = run(view, 120, lam=0.0)
    factors = Factors.of(view, "test")
    assert sorted(chosen.index) == list(range(120))
    matched = sum(fact["matched"] for fact in chosen.facts["groups"])
    assert (chosen.weight > 0).sum() == matched < 60
    for label in range(3):
        members = np.flatnonzero(view.labels == label)
        target = factors.take(members).mean()
        unused = chosen.index[(view.labels[chosen.index] == label) & (chosen.weight == 0)]
        assert (np.diff(factors.take(unused).inner(target)) <= 1e-6).all()


def test_a_class_without_gradient_gets_equal_weights() -> None:
    view = make_view(40, classes=1)
    chosen = run(view, 10)
    assert len(set(chosen.index)) == 10 and chosen.weight == pytest.approx(4.0)


def test_groups_none_matches_the_mean_of_the_pool() -> None:
    view = make_view(100)
    factors = Factors.of(view, "test")
    chosen = run(view, 20, quotas="none", lam=0.1)
    found = pursue(factors, factors.mean(), 20, 0.1)
    assert chosen.index.tolist() == found.order.tolist()
    assert chosen.weight == pytest.approx(100 * found.weight, rel=1e-3)


def test_released_follows_its_description() -> None:
    view = make_view(272, classes=2, d=5)
    chosen = run(view, 40, **RELEASED)
    for fact, label in zip(chosen.facts["groups"], (0, 1), strict=True):
        members = np.flatnonzero(view.labels == label)
        factors = Factors.of(view, "test").take(members)
        explicit = np.stack([factors.take(np.array([i])).sum().ravel() for i in range(len(members))]).astype(
            float
        )
        explicit *= mean_loss_scale(len(members))[:, None]
        target = explicit.mean(axis=0)
        order, _ = dense_pursuit(explicit, target, round(40 * len(members) / 272), 1.0, False)
        a = explicit[order]
        weight = nnls(a @ a.T + np.eye(len(a)), a @ target)[0]
        part = view.labels[chosen.index] == label
        assert chosen.index[part].tolist() == members[np.array(order)[weight > 0]].tolist()
        assert chosen.weight[part] == pytest.approx(weight[weight > 0], rel=1e-4)
        assert fact["matched"] == part.sum()
    assert chosen.size == len(chosen.index) <= 40


def test_released_ridge_leaves_most_of_the_gradient_and_picks_top_inner_products() -> None:
    view = make_view(544, classes=4, d=8, seed=2)
    released, paper = run(view, 56, **RELEASED), run(view, 56)
    factors, agree = Factors.of(view, "test"), 0
    for label in range(4):
        members = np.flatnonzero(view.labels == label)
        scaled = factors.take(members).scaled(mean_loss_scale(len(members)))
        own = released.index[view.labels[released.index] == label]
        top = members[np.argsort(-scaled.inner(scaled.mean()), kind="stable")][: len(own)]
        agree += len(set(top) & set(own))
    assert agree >= 0.9 * len(released.index)
    assert all(fact["residual"] > 0.8 for fact in released.facts["groups"])
    assert all(fact["residual"] < 0.2 for fact in paper.facts["groups"])
    assert len(set(released.index) & set(paper.index)) < 40


def test_a_support_that_does_not_fit_is_refused() -> None:
    view = make_view(60)
    small = View(view.n, view.labels, view.signals, memory_gb=1e-7)
    with pytest.raises(UserError, match="smaller budget"):
        run(small, 60)
