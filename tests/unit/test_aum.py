"""AUM: the mean margin, and that it finds flipped labels of a run that memorises them late."""

from __future__ import annotations

import math

import numpy as np

from winnow.select.aum import AUMParams, select
from winnow.select.engine.subset import Subset, View


def run(
    margins: np.ndarray, budget: int | None, labels: np.ndarray | None = None, **params: object
) -> Subset:
    n = len(margins)
    view = View(n, np.zeros(n, int) if labels is None else labels, {"margin_history": margins})
    return select(view, budget, np.random.default_rng(0), AUMParams(**params))  # type: ignore[arg-type]


def test_score_is_the_mean_over_epochs_of_label_logit_minus_largest_other() -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(7, 30, 4)).astype(np.float32), random.integers(4, size=30)
    margins, expected = np.empty((30, 7), np.float32), []
    for i, label in enumerate(labels):
        for epoch, rows in enumerate(logits):
            margins[i, epoch] = rows[i, label] - max(z for j, z in enumerate(rows[i]) if j != label)
        expected.append(math.fsum(margins[i]) / 7)
    chosen = run(margins, None)
    assert chosen.score is not None
    np.testing.assert_allclose(chosen.score.values, expected, atol=1e-6)
    assert chosen.index.tolist() == np.argsort(-np.array(expected)).tolist()
    assert run(margins, None, keep="low").index.tolist() == chosen.index[::-1].tolist()


def test_labels_that_are_memorised_late_are_removed() -> None:
    random = np.random.default_rng(1)
    wrong = random.permutation(np.arange(500) < 50)
    epochs = np.arange(20)
    learned = np.where(wrong, 15, 3)[:, None]
    margins = (np.tanh((epochs - learned) / 3) * 4 + random.normal(size=(500, 20))).astype(np.float32)
    assert wrong[run(margins, 450).index].sum() == 0
    at_the_end = np.argsort(-margins[:, -1])[:450]
    assert wrong[at_the_end].sum() > 0, "the last margin alone should not suffice here"


def test_quotas_keep_the_shares_of_the_labels() -> None:
    labels = np.repeat(np.arange(3), [20, 30, 50])
    margins = (labels[:, None] + np.random.default_rng(0).normal(size=(100, 4))).astype(np.float32)
    assert np.bincount(labels[run(margins, 50, labels, quotas="labels").index]).tolist() == [10, 15, 25]
