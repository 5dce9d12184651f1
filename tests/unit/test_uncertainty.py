"""Uncertainty: the three measures against their definitions, and the released order that is reversed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from winnow import registry
from winnow.select.engine.subset import View
from winnow.select.uncertainty import Measure, UncertaintyParams, select, uncertainty

MEASURES: tuple[Measure, ...] = ("least_confidence", "entropy", "margin")


def pool(n: int = 400, classes: int = 5) -> View:
    random = np.random.default_rng(0)
    labels = random.integers(classes, size=n)
    logits = random.normal(size=(n, classes)) * random.uniform(0.2, 4, size=(n, 1))
    return View(n, labels, {"logits": logits.astype(np.float32)})


def run(view: View, budget: int | None, **params: object) -> np.ndarray:
    return select(view, budget, np.random.default_rng(0), UncertaintyParams(**params)).index  # type: ignore[arg-type]


def variant(name: str, **changes: object) -> dict[str, object]:
    return {**registry.load("select", "uncertainty", "test").variants[name], **changes}


def test_measures_equal_their_definitions() -> None:
    logits = pool().signals["logits"]
    p = softmax(logits.astype(np.float64), axis=1)
    top = np.sort(p, axis=1)
    expected = {
        "least_confidence": 1 - top[:, -1],
        "entropy": entropy(p, axis=1),
        "margin": 1 - (top[:, -1] - top[:, -2]),
        "max_logit": -logits.max(axis=1),
    }
    for measure, values in expected.items():
        np.testing.assert_allclose(uncertainty(logits, measure), values, atol=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("measure", MEASURES)
def test_confident_examples_do_not_tie(measure: Measure) -> None:
    logits = np.array([[90.0, 0, 0], [60, 0, 0], [75, 0, 0], [2, 0, 0]])
    assert np.argsort(-uncertainty(logits, measure)).tolist() == [3, 1, 2, 0]


def test_entropies_of_sure_examples_keep_their_digits() -> None:
    gaps = np.array([[0, -36.7, -60], [0, -36.75, -38.9], [0, -41, -700]])
    odds = np.exp(gaps[:, 1:])
    exact = (odds * (1 - gaps[:, 1:])).sum(axis=1)  # log(1 + t) = t and 1 + t = 1 to 16 digits
    np.testing.assert_allclose(uncertainty(gaps, "entropy"), exact, rtol=1e-12)


def test_one_class_and_equal_logits() -> None:
    for measure in MEASURES:
        assert uncertainty(np.ones((3, 1)), measure).tolist() == [0, 0, 0]
    np.testing.assert_allclose(uncertainty(np.zeros((1, 4)), "least_confidence"), 0.75)
    np.testing.assert_allclose(uncertainty(np.zeros((1, 4)), "entropy"), np.log(4))
    np.testing.assert_allclose(uncertainty(np.zeros((1, 4)), "margin"), 1)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("quotas", ["none", "labels"])
def test_picks_are_more_uncertain_than_the_pool(measure: Measure, quotas: str) -> None:
    view = pool()
    p = softmax(view.signals["logits"], axis=1)
    chosen = run(view, 60, measure=measure, quotas=quotas)
    assert entropy(p[chosen], axis=1).mean() > 1.3 * entropy(p, axis=1).mean()


def test_released_picks_the_most_certain_of_the_pool_but_not_within_classes() -> None:
    view = pool()
    entropies = entropy(softmax(view.signals["logits"], axis=1), axis=1)
    assert entropies[run(view, 60, **variant("released"))].mean() < 0.5 * entropies.mean()
    assert entropies[run(view, 60, **variant("released_balanced"))].mean() > 1.2 * entropies.mean()


@pytest.mark.parametrize("quotas", ["none", "labels"])
def test_released_equals_the_released_procedure(quotas: str) -> None:
    view = pool()
    confidence = view.signals["logits"].max(axis=1)
    found = run(view, 50, **variant("released", quotas=quotas))
    if quotas == "none":
        assert found.tolist() == np.argsort(-confidence)[:50].tolist()
        return
    for label in range(5):
        members = np.flatnonzero(view.labels == label)
        kept = found[view.labels[found] == label]
        assert kept.tolist() == members[np.argsort(confidence[members])][: len(kept)].tolist()


def test_released_confidence_is_a_logit_not_a_probability() -> None:
    logits = np.array([[9.0, 9.0], [1.0, -5.0]], np.float32)
    view = View(2, np.zeros(2, int), {"logits": logits})
    assert run(view, 1).tolist() == [0]
    assert run(view, 1, **variant("released_balanced")).tolist() == [1]
