"""Glister: the update after every pick, its blocks, the released top-k."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.select.engine.gradients import Factors, mean_loss_scale
from winnow.select.engine.subset import Subset, View
from winnow.select.glister import RELEASED, GlisterParams, select


def make_view(
    n: int = 60, classes: int = 3, d: int = 5, seed: int = 0
) -> tuple[View, np.ndarray, np.ndarray]:
    """Return a view and the last layer (weights, bias) that its logits come from."""
    random = np.random.default_rng(seed)
    features, labels = random.normal(size=(n, d)).astype(np.float32), random.integers(classes, size=n)
    weight, bias = random.normal(size=(classes, d)), random.normal(size=classes)
    logits = (features @ weight.T + bias).astype(np.float32)
    return View(n, labels, {"logits": logits, "features": features}), weight, bias


def run(view: View, budget: int | None, seed: int = 0, **params: object) -> Subset:
    return select(view, budget, np.random.default_rng(seed), GlisterParams(**params))  # type: ignore[arg-type]


def softmax_residual(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    exponential = np.exp(logits)
    return exponential / exponential.sum(axis=1, keepdims=True) - np.eye(logits.shape[1])[labels]


def brute_force(view: View, weight: np.ndarray, bias: np.ndarray, budget: int, eta: float) -> list[int]:
    """Update the layer itself after every pick; gradients are explicit outer products in float64."""
    rows = np.concatenate([np.ones((view.n, 1)), view.signals["features"]], axis=1)
    layer = np.concatenate([bias[:, None], weight], axis=1)
    own = np.einsum("nc,nd->ncd", softmax_residual(rows @ layer.T, view.labels), rows)
    chosen: list[int] = []
    while len(chosen) < budget:
        now = np.einsum("nc,nd->cd", softmax_residual(rows @ layer.T, view.labels), rows) / view.n
        gain = (own * now).sum(axis=(1, 2))
        gain[chosen] = -np.inf
        chosen.append(int(np.argmax(gain)))
        layer = layer - eta * own[chosen[-1]]
    return chosen


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("eta", [0.001, 0.05])
def test_equals_moving_the_layer_itself(seed: int, eta: float) -> None:
    view, weight, bias = make_view(seed=seed)
    found = run(view, 30, eta=eta, growth=0).index.tolist()
    assert found == brute_force(view, weight, bias, 30, eta)


def test_a_step_of_zero_is_a_plain_top_k() -> None:
    view, _, _ = make_view()
    factors = Factors.of(view, "test")
    top = np.argsort(-factors.inner(factors.mean()), kind="stable")
    assert run(view, 25, eta=0).index.tolist() == top[:25].tolist()
    assert run(view, 25, eta=0.05, growth=0).index.tolist() != top[:25].tolist()


def test_one_update_per_pick_or_per_block() -> None:
    view, _, _ = make_view(400)
    assert run(view, 250, growth=0).facts["groups"][0]["updates"] == 250
    assert run(view, 250, growth=0.01).facts["groups"][0]["updates"] == 200 + 25  # blocks of two from 200 on
    assert run(view, 64, growth=1).facts["groups"][0]["updates"] == 7  # 1, 1, 2, 4, 8, 16, 32


@pytest.mark.parametrize("growth", [0, 0.05, 0.5])
def test_every_budget_is_a_prefix_of_one_order(growth: float) -> None:
    view, _, _ = make_view(100)
    full = run(view, None, eta=0.02, growth=growth).index
    assert sorted(full) == list(range(100))
    for budget in (0, 1, 13, 50, 99):
        assert run(view, budget, eta=0.02, growth=growth).index.tolist() == full[:budget].tolist()


def test_updates_lower_the_validation_loss_more_than_a_top_k_does() -> None:
    view, weight, bias = make_view(300, seed=4)
    rows = np.concatenate([np.ones((view.n, 1)), view.signals["features"]], axis=1)
    layer = np.concatenate([bias[:, None], weight], axis=1)
    own = np.einsum("nc,nd->ncd", softmax_residual(rows @ layer.T, view.labels), rows)

    def loss_after(index: np.ndarray) -> float:
        logits = rows @ (layer - 0.05 * own[index].sum(axis=0)).T
        total = np.log(np.exp(logits).sum(axis=1))
        return float((total - logits[np.arange(view.n), view.labels]).mean())

    chosen = run(view, 60, eta=0.05)
    assert chosen.facts["groups"][0]["validation_loss"] == pytest.approx(loss_after(chosen.index), rel=1e-4)
    assert loss_after(chosen.index) < loss_after(run(view, 60, eta=0).index)


def test_released_never_updates_and_divides_by_the_batch() -> None:
    view, _, _ = make_view(136)
    factors = Factors.of(view, "test").scaled(mean_loss_scale(136))
    released = run(view, 30, **RELEASED)
    gain = factors.inner(factors.mean())
    assert set(released.index) != set(np.argsort(-factors.inner(Factors.of(view, "test").mean()))[:30])
    assert released.index.tolist() == np.argsort(-gain, kind="stable")[:30].tolist()
    assert released.score is not None and released.score.keep == "high"
    assert (released.index >= 128).sum() > (run(view, 30).index >= 128).sum()
    assert set(released.index) != set(run(view, 30, eta=0.05).index)


def test_quotas_run_each_class_on_its_own() -> None:
    view, _, _ = make_view(90)
    chosen = run(view, 30, quotas="labels", eta=0.05)
    shares = np.bincount(view.labels[chosen.index]) / np.bincount(view.labels)
    assert shares == pytest.approx(1 / 3, abs=0.05)
    members = np.flatnonzero(view.labels == 1)
    alone = View(len(members), view.labels[members], {k: v[members] for k, v in view.signals.items()})
    own = chosen.index[view.labels[chosen.index] == 1]
    assert own.tolist() == members[run(alone, len(own), eta=0.05).index].tolist()


def test_a_held_out_share_is_drawn_from_every_class() -> None:
    view, _, _ = make_view(200)
    first, again, other = (run(view, 40, seed=s, validation=0.2).index.tolist() for s in (0, 0, 1))
    assert first == again and first != other
    assert len(set(first)) == 40
