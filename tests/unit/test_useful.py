"""USEFUL: the partition against exact 2-means, the enlarged data, and every control."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from winnow.errors import UserError
from winnow.select.engine.resample import partition, resample, resample_balanced
from winnow.select.engine.subset import Subset, View
from winnow.select.useful import UsefulParams, cross_entropy, jaccard, select


def pool(n: int = 240, classes: int = 3, seed: int = 0) -> tuple[View, np.ndarray]:
    """Return a pool whose classes have a fast and a slow group of outputs, and which are slow."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=n)
    slow = random.random(n) < 0.2 + 0.1 * labels
    logits = random.normal(size=(n, classes)) + np.where(slow, 0.5, 8)[:, None] * np.eye(classes)[labels]
    features = np.where(slow, 4.0, 0.0)[:, None] + random.normal(size=(n, 6))
    signals = {"logits": logits.astype(np.float32), "features": features.astype(np.float32)}
    return View(n, labels, signals), slow


def run(view: View, seed: int = 0, **params: object) -> Subset:
    return select(view, view.n, np.random.default_rng(seed), UsefulParams(**params))  # type: ignore[arg-type]


def copies(chosen: Subset, n: int) -> np.ndarray:
    """Return how often every example is shown; the whole pool must come first."""
    assert chosen.index[:n].tolist() == list(range(n))
    return np.bincount(chosen.index, minlength=n)


@pytest.mark.parametrize("seed", range(4))
def test_partition_is_the_best_split_in_two(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(11, 2)).astype(np.float32) + 2 * random.integers(2, size=(11, 1))
    rows, losses = rows.astype(np.float32), random.exponential(size=11)
    best, split = np.inf, np.zeros(11, bool)
    for bits in itertools.product([False, True], repeat=10):
        second = np.array([False, *bits])
        if second.any():
            parts = rows[second], rows[~second]
            cost = sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts)
            if cost < best:
                best, split = cost, second
    expected = split if losses[split].mean() > losses[~split].mean() else ~split
    found = partition(rows, losses, np.zeros(11, int), seed=0, restarts=50)
    assert found.tolist() == expected.tolist()


def test_slow_clusters_have_the_higher_mean_loss_and_are_found() -> None:
    view, slow = pool()
    for outputs in ("logits", "features"):
        found = copies(run(view, outputs=outputs), view.n) == 2
        losses = cross_entropy(view.signals["logits"], view.labels)
        for label in range(3):
            members = view.labels == label
            assert losses[found & members].mean() > losses[~found & members].mean()
        assert jaccard(found, slow) > 0.85


def test_cross_entropy_is_minus_the_log_probability_of_the_label() -> None:
    view, _ = pool(20)
    logits = view.signals["logits"].astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(cross_entropy(logits, view.labels), -np.log(p[np.arange(20), view.labels]))


def test_standardising_changes_what_a_large_column_hides() -> None:
    random = np.random.default_rng(0)
    slow = np.arange(200) < 60
    rows = np.stack([1000 * random.normal(size=200), np.where(slow, 1.0, -1.0)], axis=1).astype(np.float32)
    one_class, losses = np.zeros(200, int), slow.astype(float)
    rows[:, 0] += 3000 * (random.random(200) < 0.05)
    scaled = partition(rows, losses, one_class, seed=0, restarts=10, standardised=True)
    raw = partition(rows, losses, one_class, seed=0, restarts=10)
    assert jaccard(scaled, slow) > 0.9 > jaccard(raw, slow)


@pytest.mark.parametrize("standardised", [False, True])
def test_permuting_the_examples_permutes_the_slow_set(standardised: bool) -> None:
    """One start of k-means on rows without clusters: any other start gives another split."""
    random = np.random.default_rng(0)
    rows, losses = random.normal(size=(240, 6)).astype(np.float32), random.exponential(size=240)
    classes, order = random.integers(3, size=240), random.permutation(240)
    found, other = (partition(rows, losses, classes, seed, 1, standardised) for seed in (7, 8))
    moved = partition(rows[order], losses[order], classes[order], 7, 1, standardised)
    assert moved.tolist() == found[order].tolist() != other[order].tolist()


@pytest.mark.parametrize("standardised", [False, True])
def test_classes_that_cannot_be_split_are_fast(standardised: bool) -> None:
    rows = np.array([[0, 1], [2, 2], [2, 2], [2, 2], [5, 0], [6, 0]], np.float32)
    classes, losses = np.array([0, 1, 1, 1, 2, 2]), np.arange(6.0)
    found = partition(rows, losses, classes, seed=0, standardised=standardised)
    assert found.tolist() == [False] * 5 + [True]
    assert not partition(rows, np.ones(6), classes, seed=0).any()
    assert not partition(rows[:0], losses[:0], classes[:0], seed=0).any()


def test_thirty_per_cent_slow_of_50_000_gives_65_000() -> None:
    slow = np.random.default_rng(0).permutation(np.arange(50_000) < 15_000)
    index = resample(slow, 2)
    assert len(index) == 65_000
    assert (np.bincount(index) == 1 + slow).all()
    assert len(resample(slow, 4)) == 95_000


@pytest.mark.parametrize("kind", ["kmeans", "random", "loss_quantile", "misclassified"])
@pytest.mark.parametrize("action", ["upsample", "upweight"])
@pytest.mark.parametrize("balance", [False, True])
def test_factor_one_is_the_plain_pool(kind: str, action: str, balance: bool) -> None:
    view, _ = pool(60)
    chosen = run(view, partition=kind, action=action, balance=balance, factor=1)
    assert chosen.index.tolist() == list(range(60))
    assert (chosen.weight == 1).all()


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_weights_equal_the_numbers_of_copies(factor: int) -> None:
    view, _ = pool()
    more, heavier = run(view, factor=factor), run(view, factor=factor, action="upweight")
    assert heavier.index.tolist() == list(range(view.n))
    assert heavier.weight.tolist() == copies(more, view.n).tolist()
    assert set(heavier.weight.tolist()) == {1.0, float(factor)}


def test_controls_have_the_sizes_of_the_partition_in_every_class() -> None:
    view, _ = pool()
    slow = {
        kind: copies(run(view, partition=kind), view.n) == 2 for kind in ("kmeans", "random", "loss_quantile")
    }
    counts = {kind: np.bincount(view.labels[mask]).tolist() for kind, mask in slow.items()}
    assert counts["random"] == counts["loss_quantile"] == counts["kmeans"]
    assert jaccard(slow["random"], slow["kmeans"]) < 0.5
    losses = cross_entropy(view.signals["logits"], view.labels)
    for label in range(3):
        members = view.labels == label
        largest = losses[slow["loss_quantile"] & members].min()
        assert largest >= losses[~slow["loss_quantile"] & members].max()


def test_misclassified_examples_are_the_slow_ones() -> None:
    view, _ = pool()
    wrong = view.signals["logits"].argmax(axis=1) != view.labels
    assert 0 < wrong.sum() < view.n
    assert (copies(run(view, partition="misclassified"), view.n) == 1 + wrong).all()


@pytest.mark.parametrize("factor", [2, 6])
def test_balancing_keeps_the_length_and_the_proportions(factor: int) -> None:
    view, _ = pool()
    plain, balanced = (
        copies(run(view, factor=factor), view.n),
        copies(run(view, factor=factor, balance=True), view.n),
    )
    slow = plain > 1
    assert balanced.sum() == plain.sum()
    share = np.bincount(view.labels) * balanced.sum() / view.n
    assert np.abs(np.bincount(view.labels, balanced) - share).max() < 1
    assert np.abs(np.bincount(view.labels, plain) - share).max() > 5
    assert (balanced[~slow] == 1).all()
    for label in range(3):
        assert np.ptp(balanced[slow & (view.labels == label)]) <= 1


def test_balancing_repeats_all_of_a_class_without_slow_examples() -> None:
    classes, slow = np.repeat([0, 1], [4, 4]), np.arange(8) < 4
    counts = np.bincount(resample_balanced(slow, 3, classes, np.random.default_rng(0)))
    assert counts.tolist() == [2] * 8


def test_facts_and_the_agreement_between_seeds() -> None:
    view, _ = pool()
    chosen = run(view, outputs="features")
    mask = copies(chosen, view.n) == 2
    assert chosen.facts["slow"] == chosen.facts["copies"] == mask.sum()
    assert chosen.facts["slow_shares"]["1"] == pytest.approx(mask[view.labels == 1].mean())
    assert chosen.facts["agreement"] == 1.0
    noise = View(
        view.n, view.labels, {"logits": np.random.default_rng(0).normal(size=(240, 3)).astype(np.float32)}
    )
    assert run(noise, kmeans_restarts=1).facts["agreement"] < 1


def test_less_than_the_whole_pool_is_refused() -> None:
    view, _ = pool(30)
    with pytest.raises(UserError, match="fraction must be 1"):
        select(view, 20, np.random.default_rng(0), UsefulParams())
    assert len(select(view, None, np.random.default_rng(0), UsefulParams()).index) > 30
