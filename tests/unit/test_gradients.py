"""Last-layer gradients in factors against the outer products themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from winnow.errors import UserError
from winnow.select.engine.gradients import Factors, mean_loss_scale, residuals
from winnow.select.engine.last_layer import LastLayer
from winnow.select.engine.similarity import Cosine, Vectors
from winnow.select.engine.subset import View


def make_factors(n: int = 40, classes: int = 4, d: int = 6, seed: int = 0) -> tuple[Factors, np.ndarray]:
    """Return factors in float64 and the explicit gradients, (n, C (d + 1)), class by class."""
    random = np.random.default_rng(seed)
    delta = residuals(random.normal(size=(n, classes)), random.integers(classes, size=n))
    factors = Factors(delta, random.normal(size=(n, d)))
    with_bias = np.concatenate([np.ones((n, 1)), factors.features], axis=1)
    return factors, np.einsum("nc,nd->ncd", delta, with_bias).reshape(n, -1)


def test_closed_forms_equal_explicit_gradients() -> None:
    factors, explicit = make_factors()
    a, b = np.array([3, 1, 30]), np.array([0, 3, 7, 12])
    weight = np.random.default_rng(1).random(40)
    matrix = np.random.default_rng(2).normal(size=(4, 7))
    assert factors.gram(a, b) == pytest.approx(explicit[a] @ explicit[b].T, abs=1e-10)
    assert factors.gram(slice(None), b) == pytest.approx(explicit @ explicit[b].T, abs=1e-10)
    assert factors.norms() == pytest.approx(np.linalg.norm(explicit, axis=1), abs=1e-10)
    assert factors.mean().ravel() == pytest.approx(explicit.mean(axis=0), abs=1e-10)
    assert factors.sum(weight).ravel() == pytest.approx(weight @ explicit, abs=1e-10)
    assert factors.inner(matrix) == pytest.approx(explicit @ matrix.ravel(), abs=1e-10)


def test_explicit_gradients_are_those_of_autograd_for_any_batch_size() -> None:
    random = np.random.default_rng(0)
    features, labels = (
        torch.from_numpy(random.normal(size=(11, 5))),
        torch.from_numpy(random.integers(3, size=11)),
    )
    layer = torch.nn.Linear(5, 3).double()
    logits = layer(features).detach().numpy()
    factors = Factors(residuals(logits, labels.numpy()), features.numpy())
    for i in range(11):
        loss = torch.nn.functional.cross_entropy(layer(features[i : i + 1]), labels[i : i + 1])
        weight, bias = torch.autograd.grad(loss, (layer.weight, layer.bias))
        own = factors.take(np.array([i])).sum()
        assert own[:, 1:] == pytest.approx(weight.numpy(), abs=1e-10)
        assert own[:, 0] == pytest.approx(bias.numpy(), abs=1e-10)


def test_a_sure_example_keeps_its_digits() -> None:
    delta = residuals(np.array([[60.0, 0.0]], np.float32), np.array([0]))
    assert delta[0] == pytest.approx([-np.exp(-60), np.exp(-60)], rel=1e-6)


@pytest.mark.parametrize("gap", [20, 52, 80])
def test_directions_of_sure_examples_do_not_underflow(gap: float) -> None:
    random = np.random.default_rng(0)
    logits = np.array([[gap, 0, 0], [gap, 1, 0], [0.5 + gap, 0, 2]], np.float32)
    signals = {"logits": logits, "features": random.normal(size=(3, 4)).astype(np.float32)}
    factors = Factors.of(View(3, np.zeros(3, np.int64), signals), "test")
    scale = np.exp(float(gap))
    exact = np.einsum(
        "nc,nd->ncd", residuals(logits, np.zeros(3, int)) * scale, np.c_[np.ones(3), signals["features"]]
    )
    explicit = exact.reshape(3, -1)
    norms = np.linalg.norm(explicit, axis=1)
    assert factors.norms() * scale == pytest.approx(norms, rel=1e-5)
    cosines = explicit @ explicit.T / norms / norms[:, None]
    assert Cosine(factors, 2.0).dense == pytest.approx((1 + cosines) / 2, abs=1e-5)
    assert Vectors(np.full((1, 4), 1e-30, np.float32)).norms() == pytest.approx([2e-30], rel=1e-5)


def test_released_scale_is_that_of_a_mean_over_the_batch() -> None:
    scale = mean_loss_scale(5000)
    assert scale[:-8] == pytest.approx(1 / 128) and scale[-8:] == pytest.approx(1 / 8)
    whole = mean_loss_scale(50_000)
    assert (whole > 1 / 128).sum() == 80 and whole[-1] * 128 == pytest.approx(1.6)
    assert mean_loss_scale(256) == pytest.approx(1 / 128)
    assert mean_loss_scale(5) == pytest.approx(1 / 5)
    random = np.random.default_rng(0)
    logits, labels = torch.randn(136, 3, requires_grad=True), torch.from_numpy(random.integers(3, size=136))
    for start in (0, 128):
        torch.nn.functional.cross_entropy(logits[start : start + 128], labels[start : start + 128]).backward()
    expected = residuals(logits.detach().numpy(), labels.numpy()) * mean_loss_scale(136)[:, None]
    assert logits.grad is not None
    assert logits.grad.numpy() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("moved", [1, 3, 4, 11])
def test_a_moved_layer_equals_new_logits(moved: int) -> None:
    random = np.random.default_rng(3)
    features, labels = random.normal(size=(30, 5)), random.integers(4, size=30)
    weight, bias = random.normal(size=(4, 5)), random.normal(size=4)
    layer = LastLayer(features, features @ weight.T + bias, labels)
    gradients = Factors(random.normal(size=(moved, 4)), random.normal(size=(moved, 5)))
    step = 0.3 * gradients.sum()
    layer.move(gradients, 0.3)
    logits = torch.from_numpy(features @ (weight - step[:, 1:]).T + bias - step[:, 0])
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
    assert layer.loss() == pytest.approx(float(loss), abs=1e-10)
    expected = Factors(residuals(logits.numpy(), labels), features).mean()
    assert layer.gradient() == pytest.approx(expected, abs=1e-10)


def test_an_example_without_a_label_is_refused() -> None:
    signals = {"logits": np.zeros((2, 3), np.float32), "features": np.zeros((2, 4), np.float32)}
    with pytest.raises(UserError, match="label"):
        Factors.of(View(2, np.array([0, -1]), signals), "gradmatch")
