"""RS2: what every round and every pass over the pool holds."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest

from winnow.select.engine.subset import View, check
from winnow.select.rs2 import RS2Params, select, walk


def rounds(n: int, budget: int | None, seed: int = 0, **params: object) -> np.ndarray:
    view = View(n, np.zeros(n, int))
    chosen = select(view, budget, np.random.default_rng(seed), RS2Params(**params))  # type: ignore[arg-type]
    check(chosen, view, budget)
    return chosen.index.reshape(chosen.rounds, -1)


def test_rounds_that_divide_the_pool_make_whole_permutations() -> None:
    found = rounds(60, 15, rounds=8)
    for each in (found[:4], found[4:]):
        assert sorted(each.ravel()) == list(range(60))
    assert found[:4].ravel().tolist() != found[4:].ravel().tolist()


@pytest.mark.parametrize(("n", "size"), [(10, 3), (10, 7), (10, 9), (10, 10), (7, 1), (23, 16)])
def test_no_round_repeats_an_example_and_passes_are_complete(n: int, size: int) -> None:
    shown = np.zeros(n, int)
    for k, part in enumerate(islice(walk(n, size, np.random.default_rng(0)), 200), start=1):
        assert len(set(part)) == len(part) == size
        shown[part] += 1
        assert shown.min() >= k * size // n - 1
        assert shown.max() <= -(-k * size // n) + 1
        if k * size % n == 0:
            assert (shown == k * size // n).all()


def test_a_crossing_round_takes_the_rest_then_what_it_does_not_hold() -> None:
    random = np.random.default_rng(5)
    first, second = random.permutation(10), random.permutation(10)
    parts = list(islice(walk(10, 7, np.random.default_rng(5)), 2))
    assert parts[0].tolist() == first[:7].tolist()
    rest = first[7:].tolist()
    assert parts[1].tolist() == rest + [i for i in second if i not in rest][:4]


def test_with_replacement_rounds_are_distinct_subsets_of_uniform_examples() -> None:
    found = rounds(20, 5, rounds=4000, replacement=True)
    assert all(len(set(part)) == 5 for part in found)
    counts = np.bincount(found.ravel(), minlength=20)
    assert np.abs(counts - 1000).max() < 150
    overlaps = [len(set(a) & set(b)) for a, b in pairwise(found)]
    assert 1.1 < np.mean(overlaps) < 1.4  # 5 * 5 / 20


def test_without_replacement_neighbouring_rounds_share_nothing_within_a_pass() -> None:
    found = rounds(20, 5, rounds=4)
    assert len(set(found.ravel())) == 20


@pytest.mark.parametrize("replacement", [False, True])
def test_empty_and_whole_budgets(replacement: bool) -> None:
    assert rounds(9, 0, rounds=3, replacement=replacement).shape == (3, 0)
    for budget in (9, None):
        found = rounds(9, budget, rounds=3, replacement=replacement)
        assert (np.sort(found, axis=1) == np.arange(9)).all()
        assert found[0].tolist() != found[1].tolist()
