"""Confident learning: qualities against their formulas, injected errors, and pools that upset the library."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from cleanlab.count import num_label_issues
from scipy.special import softmax

from winnow.select.confident_learning import (
    ConfidentLearningParams,
    flagged_labels,
    label_quality,
    select,
)
from winnow.select.engine.subset import Subset, View


def noisy(n: int = 600, classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits that know the true labels, given labels of which a tenth is wrong, and which ones."""
    random = np.random.default_rng(0)
    true = random.integers(classes, size=n)
    logits = random.normal(size=(n, classes)) + 4 * np.eye(classes)[true]
    wrong = random.permutation(np.arange(n) < n // 10)
    labels = np.where(wrong, (true + random.integers(1, classes, size=n)) % classes, true)
    return logits.astype(np.float32), labels, wrong


def run(logits: np.ndarray, labels: np.ndarray, budget: int | None, **params: object) -> Subset:
    view = View(len(labels), labels, {"heldout_logits": logits})
    return select(view, budget, np.random.default_rng(0), ConfidentLearningParams(**params))  # type: ignore[arg-type]


def test_qualities_equal_their_formulas() -> None:
    logits, labels, _ = noisy()
    p = softmax(logits.astype(np.float64), axis=1)
    own = p[np.arange(len(labels)), labels]
    other = np.where(np.eye(4, dtype=bool)[labels], -1, p).max(axis=1)
    for quality, expected in (("self_confidence", own), ("normalized_margin", (own - other + 1) / 2)):
        score = run(logits, labels, None, quality=quality).score
        assert score is not None and score.keep == "high"
        np.testing.assert_allclose(score.values, expected, atol=1e-12)


def test_the_estimated_number_of_wrong_labels_is_the_librarys_and_its_definition() -> None:
    """Count the labels of which another class passes its mean self-confidence with the most probability."""
    logits, labels, _ = noisy()
    p = softmax(logits.astype(np.float64), axis=1)
    thresholds = np.array([p[labels == k, k].mean() for k in range(4)])
    confident = np.where(p >= thresholds, p, 0)
    expected = int(((confident.max(axis=1) > 0) & (confident.argmax(axis=1) != labels)).sum())
    found = label_quality(p, labels, "self_confidence")[1]
    assert abs(found - num_label_issues(labels, p)) <= 1
    assert found == expected


@pytest.mark.parametrize("quality", ["self_confidence", "normalized_margin"])
def test_wrong_labels_are_removed_and_counted(quality: str) -> None:
    logits, labels, wrong = noisy()
    chosen = run(logits, labels, 540, quality=quality)
    assert wrong[chosen.index].sum() <= 6
    assert 40 <= chosen.facts["label_issues"] <= 70


def test_pruning_puts_every_flagged_example_behind_the_others() -> None:
    logits, labels, _ = noisy()
    logits[:40] *= 0.02  # nearly no opinion: low quality, but few are flagged
    flagged = flagged_labels(softmax(logits.astype(np.float64), axis=1), labels)
    pruned = run(logits, labels, None, prune=True)
    order = pruned.index
    assert 0 < flagged.sum() == pruned.facts["flagged"] < 600
    assert flagged[order].tolist() == sorted(flagged.tolist())
    assert flagged[run(logits, labels, None).index].tolist() != sorted(flagged.tolist())


def test_classes_that_no_example_has_change_nothing() -> None:
    logits, labels, _ = noisy()
    far = np.full((len(labels), 1), -1e4, np.float32)
    wide = np.concatenate([logits[:, :2], far, logits[:, 2:], far], axis=1)
    moved = labels + (labels >= 2)
    assert run(wide, moved, None).index.tolist() == run(logits, labels, None).index.tolist()
    assert run(wide, moved, None).facts == run(logits, labels, None).facts


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("prune", [False, True])
def test_a_single_label_has_nothing_to_be_confused_with(classes: int, prune: bool) -> None:
    labels = np.full(20, classes - 1)
    logits = np.random.default_rng(0).normal(size=(20, classes)).astype(np.float32)
    for quality in ("self_confidence", "normalized_margin"):
        chosen = run(logits, labels, 7, quality=quality, prune=prune)
        assert chosen.index.tolist() == list(range(7))
        assert set(chosen.facts.values()) == {0}


def test_the_library_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    labels = np.arange(12)
    logits = np.random.default_rng(0).normal(size=(12, 14)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(logits, labels, 5, prune=True)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
