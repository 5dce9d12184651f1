"""Moderate: the score by definition, quotas, and where its picks lie."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from winnow.errors import UserError
from winnow.select.engine.subset import Subset, View
from winnow.select.moderate import ModerateParams, select


def make_view(seed: int) -> View:
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat([0, 1, 2], [20, 30, 50]))
    rows = random.normal(size=(100, 5)) + 2 * labels[:, None]
    return View(100, labels, {"features": rows.astype(np.float32)})


def choose(view: View, budget: int | None, **params: object) -> Subset:
    return select(view, budget, np.random.default_rng(0), ModerateParams(**params))  # type: ignore[arg-type]


def by_definition(view: View) -> list[float]:
    rows, score = view.signals["features"].astype(np.float64), [0.0] * view.n
    for k in set(view.labels.tolist()):
        members = [i for i in range(view.n) if view.labels[i] == k]
        centre = sum(rows[i] for i in members) / len(members)
        distance = {i: float(np.sqrt(((rows[i] - centre) ** 2).sum())) for i in members}
        middle = statistics.median(distance.values())
        for i in members:
            score[i] = abs(distance[i] - middle)
    return score


@pytest.mark.parametrize("seed", range(3))
def test_score_and_order(seed: int) -> None:
    view = make_view(seed)
    expected = np.array(by_definition(view))
    chosen = choose(view, 40, quotas="none")
    assert chosen.score is not None and chosen.score.keep == "low"
    assert chosen.score.values == pytest.approx(expected, abs=1e-6)
    assert chosen.index.tolist() == np.argsort(expected, kind="stable")[:40].tolist()


def test_every_class_gets_its_share_of_its_own_best() -> None:
    view = make_view(1)
    score, index = np.array(by_definition(view)), choose(view, 50).index
    assert np.bincount(view.labels[index]).tolist() == [10, 15, 25]
    for k in range(3):
        members = np.flatnonzero(view.labels == k)
        best = members[np.argsort(score[members], kind="stable")]
        picks = [i for i in index if view.labels[i] == k]
        assert picks == best[: len(picks)].tolist()


def test_neither_the_nearest_nor_the_farthest_are_taken() -> None:
    angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    view = View(24, np.zeros(24, np.int64), {"features": np.concatenate([ring, 5 * ring, 9 * ring])})
    assert sorted(choose(view, 8).index) == list(range(8, 16))


def test_labels_are_needed() -> None:
    view = View(3, np.array([0, -1, 0]), {"features": np.eye(3, dtype=np.float32)})
    with pytest.raises(UserError, match="label"):
        choose(view, 1)
