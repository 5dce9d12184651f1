"""Forgetting: counts against a loop, examples never learned, ties."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.select.engine.subset import Subset, View
from winnow.select.forgetting import ForgettingParams, forgetting_events, select

RELEASED = {"never_learned": "zero"}


def view_of(history: np.ndarray, labels: np.ndarray | None = None) -> View:
    n = len(history)
    return View(n, np.zeros(n, int) if labels is None else labels, {"correct_history": history})


def run(view: View, budget: int | None, seed: int = 0, **params: object) -> Subset:
    return select(view, budget, np.random.default_rng(seed), ForgettingParams(**params))  # type: ignore[arg-type]


@pytest.mark.parametrize("epochs", [1, 2, 3, 12])
def test_events_equal_a_loop_over_epochs(epochs: int) -> None:
    history = np.random.default_rng(epochs).integers(2, size=(50, epochs)).astype(np.uint8)
    expected = []
    for row in history:
        last, count = 0, 0
        for correct in row:
            count += last == 1 and correct == 0
            last = correct
        expected.append(count)
    assert forgetting_events(history).tolist() == expected


HISTORY = np.array(
    [
        [0, 0, 0, 0, 0, 0],  # never learned
        [1, 1, 1, 1, 1, 1],  # never forgotten
        [1, 0, 1, 0, 1, 0],  # 3 events, the most that 6 epochs allow
        [0, 1, 0, 1, 1, 1],  # 1 event
    ],
    np.uint8,
)


def test_never_learned_is_first_in_the_paper_and_among_the_last_as_released() -> None:
    assert run(view_of(HISTORY), None).index.tolist() == [0, 2, 3, 1]
    assert run(view_of(HISTORY), None, keep="low").index.tolist() == [1, 3, 2, 0]
    assert run(view_of(HISTORY), 2, **RELEASED).index.tolist() == [2, 3]


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_never_learned_is_above_every_count_however_short_the_run(epochs: int) -> None:
    history = np.random.default_rng(0).integers(2, size=(40, epochs)).astype(np.uint8)
    history[17] = 0
    score = run(view_of(history), None).score
    assert score is not None and np.isfinite(score.values).all()
    assert set(np.flatnonzero(score.values == score.values.max())) == set(
        np.flatnonzero(~history.any(axis=1))
    )


def test_order_agrees_with_the_score_and_released_differs() -> None:
    history = (np.random.default_rng(1).random((300, 10)) < np.linspace(0, 1, 300)[:, None]).astype(np.uint8)
    paper, released = run(view_of(history), 60), run(view_of(history), 60, **RELEASED)
    assert paper.score is not None
    kept = paper.score.values[paper.index]
    assert (np.diff(kept) <= 0).all()
    assert kept.min() >= np.delete(paper.score.values, paper.index).max()
    never = ~history.any(axis=1)
    assert never[paper.index].sum() == never.sum() > 0 == never[released.index].sum()


def test_ties_do_not_favour_the_first_class_of_a_sorted_pool() -> None:
    labels = np.repeat(np.arange(4), 100)
    view = view_of(np.ones((400, 5), np.uint8), labels)
    counts = np.bincount(labels[run(view, 100).index], minlength=4)
    assert counts.min() > 10
    assert run(view, 100, seed=0).index.tolist() != run(view, 100, seed=1).index.tolist()


def test_quotas_and_facts() -> None:
    labels = np.repeat(np.arange(4), [10, 20, 30, 40])
    history = np.random.default_rng(0).integers(2, size=(100, 6)).astype(np.uint8)
    chosen = run(view_of(history, labels), 50, quotas="labels")
    assert np.bincount(labels[chosen.index]).tolist() == [5, 10, 15, 20]
    assert run(view_of(HISTORY), 2).facts == {"never_learned": 1, "never_forgotten": 1}
