"""Late learning: the learning time against its definition, and ties."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.select.engine.subset import View
from winnow.select.late_learning import LateLearningParams, learning_time, select


def run(history: np.ndarray, budget: int | None, seed: int = 0, quotas: str = "none") -> np.ndarray:
    view = View(len(history), np.repeat(np.arange(4), len(history) // 4), {"correct_history": history})
    params = LateLearningParams(quotas=quotas)  # type: ignore[arg-type]
    return select(view, budget, np.random.default_rng(seed), params).index


@pytest.mark.parametrize("epochs", [1, 2, 11, 300])
def test_time_is_the_first_epoch_from_which_all_are_right(epochs: int) -> None:
    history = (np.random.default_rng(epochs).random((60, epochs)) < 0.8).astype(np.uint8)
    history[0], history[1] = 1, 0
    expected = [next((e for e in range(epochs) if row[e:].all()), epochs) for row in history]
    assert expected[:2] == [0, epochs]
    assert learning_time(history).tolist() == expected


def test_an_example_that_is_unlearned_counts_from_when_it_stays_learned() -> None:
    history = np.array([[1, 1, 0, 1], [0, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]], np.uint8)
    assert learning_time(history).tolist() == [3, 1, 4, 0]
    assert run(history, None).tolist() == [3, 1, 0, 2]


def test_ties_do_not_favour_the_first_class_of_a_sorted_pool() -> None:
    history = np.ones((400, 6), np.uint8)
    assert np.bincount(run(history, 100) // 100, minlength=4).min() > 10
    assert run(history, 100, seed=0).tolist() != run(history, 100, seed=1).tolist()
    assert np.bincount(run(history, 100, quotas="labels") // 100).tolist() == [25, 25, 25, 25]
