"""Quotas: exact totals, proportional, nested, for any class sizes."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.select.engine.quotas import groups_of, interleave, quotas

SIZES = [[37, 61, 52, 50], [1, 1, 1], [100], [5, 0, 7], [1, 999], list(range(1, 30))]


@pytest.mark.parametrize("sizes", SIZES)
def test_totals_are_exact_and_nested(sizes: list[int]) -> None:
    previous = np.zeros(len(sizes), int)
    for budget in range(sum(sizes) + 1):
        found = quotas(sizes, budget)
        assert found.sum() == budget
        assert (found <= sizes).all()
        assert (found >= previous).all()
        previous = found


@pytest.mark.parametrize("sizes", SIZES)
def test_quotas_are_websters(sizes: list[int]) -> None:
    """Independent reference: hand out seats one by one to the largest n_k / (2 seats + 1)."""
    for budget in range(sum(sizes) + 1):
        seats = [0] * len(sizes)
        for _ in range(budget):
            quotients = [n / (2 * s + 1) for n, s in zip(sizes, seats, strict=True)]
            seats[quotients.index(max(quotients))] += 1
        assert quotas(sizes, budget).tolist() == seats


def test_shares_stay_within_one_example_of_proportional() -> None:
    sizes = [37, 61, 52, 50]
    for budget in range(201):
        shares = np.array(sizes) * budget / 200
        assert (np.abs(quotas(sizes, budget) - shares) < 1).all()


def test_many_small_groups_can_leave_a_large_one_far_from_its_share() -> None:
    assert quotas([1000] + [1] * 100, 500).tolist() == [500] + [0] * 100


def test_the_specified_case_holds_forty_where_flooring_holds_39() -> None:
    sizes = [37, 61, 52, 50]
    assert quotas(sizes, 40).sum() == 40
    assert sum(int(0.2 * n) for n in sizes) == 39


def test_interleave_keeps_each_groups_order_and_loses_nothing() -> None:
    orders = [np.array([3, 1]), np.array([0, 5, 2, 4])]
    merged = interleave(orders)
    assert sorted(merged) == list(range(6))
    for order in orders:
        assert [i for i in merged if i in order] == order.tolist()


def test_groups_are_stable_and_skip_empty_classes() -> None:
    groups = groups_of(np.array([4, 0, 4, 2, 0]))
    assert [group.tolist() for group in groups] == [[1, 4], [3], [0, 2]]
    assert groups_of(np.empty(0, int)) == []
