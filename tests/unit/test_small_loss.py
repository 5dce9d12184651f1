"""Small loss: mean and last epoch, and how they differ once wrong labels are memorised."""

from __future__ import annotations

import numpy as np

from winnow.select.engine.subset import View
from winnow.select.small_loss import SmallLossParams, select


def run(losses: np.ndarray, budget: int | None, **params: object) -> np.ndarray:
    view = View(len(losses), np.arange(len(losses)) % 3, {"loss_history": losses})
    return select(view, budget, np.random.default_rng(0), SmallLossParams(**params)).index  # type: ignore[arg-type]


def test_order_is_by_the_mean_or_by_the_last_loss() -> None:
    losses = np.array([[3, 0, 0], [1, 1, 4], [0, 0, 1], [2, 2, 0.5]], np.float32)
    assert run(losses, None).tolist() == [2, 0, 3, 1]
    assert run(losses, None, epochs="last").tolist() == [0, 3, 2, 1]


def test_equals_a_sort_of_exact_means() -> None:
    losses = np.random.default_rng(0).exponential(size=(80, 9)).astype(np.float32)
    means = [sum(map(float, row)) / 9 for row in losses]
    assert run(losses, 40).tolist() == sorted(range(80), key=means.__getitem__)[:40]


def test_the_mean_finds_labels_that_the_last_epoch_has_memorised() -> None:
    random = np.random.default_rng(0)
    wrong = random.permutation(np.arange(400) < 40)
    learned = np.where(wrong, 8, 2)[:, None]
    losses = (4 / (1 + np.exp(np.arange(12) - learned)) + 0.2 * random.random((400, 12))).astype(np.float32)
    assert wrong[run(losses, 360)].sum() == 0 < wrong[run(losses, 360, epochs="last")].sum()


def test_quotas_keep_the_shares_of_the_labels() -> None:
    losses = np.sort(np.random.default_rng(0).exponential(size=(90, 2)), axis=0).astype(np.float32)
    assert np.bincount(run(losses, 30, quotas="labels") % 3).tolist() == [10, 10, 10]
