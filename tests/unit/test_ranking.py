"""From scores to orders: quotas, ties by position, ties by a draw."""

from __future__ import annotations

import numpy as np

from winnow.select.engine.quotas import quotas
from winnow.select.engine.ranking import ranked
from winnow.select.engine.subset import Score


def test_ties_go_to_the_lowest_position() -> None:
    values = np.array([1.0, 3.0, 3.0, 1.0, 2.0])
    assert ranked(Score(values, "high")).tolist() == [1, 2, 4, 0, 3]
    assert ranked(Score(values, "low")).tolist() == [0, 3, 4, 1, 2]


def test_every_prefix_holds_the_best_of_each_class_in_its_share() -> None:
    random = np.random.default_rng(0)
    values, classes = random.normal(size=60), np.repeat([4, 1, 7], [30, 20, 10])
    order = ranked(Score(values, "high"), classes)
    for budget in range(61):
        shares = quotas([20, 30, 10], budget)
        for label, share in zip((1, 4, 7), shares, strict=True):
            members = np.flatnonzero(classes == label)
            best = members[np.argsort(-values[members])][:share]
            found = order[:budget][classes[order[:budget]] == label]
            assert found.tolist() == best.tolist()


def test_drawn_ties_keep_the_ranking_and_do_not_favour_the_first_positions() -> None:
    values = np.repeat([0.0, 1.0], 500)
    orders = [ranked(Score(values, "high"), ties=np.random.default_rng(seed)) for seed in range(20)]
    for order in orders:
        assert sorted(order) == list(range(1000))
        assert (np.diff(values[order]) <= 0).all()
    early = np.mean([(order[:100] < 750).mean() for order in orders])
    assert 0.4 < early < 0.6
    assert orders[0].tolist() != orders[1].tolist()
    again = ranked(Score(values, "high"), ties=np.random.default_rng(0))
    assert again.tolist() == orders[0].tolist()
