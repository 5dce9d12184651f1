"""Greedy against what apricot-select and submodlib chose (benchmarks/golden.py writes the file)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from winnow.select.engine.facility_location import FacilityLocation
from winnow.select.engine.greedy import SetFunction, lazy, naive
from winnow.select.engine.set_functions import (
    DisparityMin,
    DisparitySum,
    FeatureCoverage,
    GraphCut,
    LogDeterminant,
)
from winnow.select.engine.similarity import Given

GOLDEN = json.loads((Path(__file__).parent / "golden/greedy.json").read_text())
N, BUDGET = GOLDEN["n"], GOLDEN["budget"]


def instance(seed: int, grid: bool) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    rows = random.random((N, 6))
    similarity = np.exp(-((rows[:, None] - rows) ** 2).sum(axis=2))
    if grid:
        rows, similarity = np.round(4 * rows) / 4, np.round(8 * similarity) / 8
    low, high = rows.min(axis=0), rows.max(axis=0)
    return similarity.astype(np.float32), (rows - low) / (high - low)


FUNCTIONS: dict[str, Callable[[np.ndarray, np.ndarray], SetFunction]] = {
    "facility_location": lambda s, x: FacilityLocation(Given(s)),
    "graph_cut": lambda s, x: GraphCut(Given(s)),
    "feature_coverage": lambda s, x: FeatureCoverage(x),
    "log_det": lambda s, x: LogDeterminant(Given(s), GOLDEN["ridge"]),
    "disparity_min": lambda s, x: DisparityMin(Given(1 - s)),
    "disparity_sum": lambda s, x: DisparitySum(Given(1 - s)),
}

CASES = [
    pytest.param(
        name, library, case, id=f"{name}-{library}-{case['seed']}-{'grid' if case['grid'] else 'real'}"
    )
    for case in GOLDEN["cases"]
    for name, answers in case["answers"].items()
    for library in answers
]


@pytest.mark.parametrize(("name", "library", "case"), CASES)
def test_the_libraries_gains_are_ours_and_every_pick_is_a_best_one(
    name: str, library: str, case: dict[str, Any]
) -> None:
    function = FUNCTIONS[name](*instance(case["seed"], case["grid"]))
    answer = case["answers"][name][library]
    left = np.ones(N, bool)
    for pick, gain in zip(answer["picks"], answer["gains"], strict=True):
        gains = function.gains(np.arange(N))
        assert gains[pick] == pytest.approx(gain, abs=2e-6)
        assert gains[pick] >= gains[left].max() - 2e-6
        function.add(pick)
        left[pick] = False


APRICOT = [param for param in CASES if param.values[1] == "apricot"]


@pytest.mark.parametrize(("name", "library", "case"), APRICOT)
@pytest.mark.parametrize("optimiser", [naive, lazy])
def test_picks_are_those_of_the_library_with_the_same_rule_for_ties(
    name: str, library: str, case: dict[str, Any], optimiser: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    order, gains = optimiser(FUNCTIONS[name](*instance(case["seed"], case["grid"])), BUDGET)
    answer = case["answers"][name][library]
    assert order.tolist() == answer["picks"]
    assert gains.sum() == pytest.approx(sum(answer["gains"]), rel=1e-6)


def test_the_instances_with_ties_have_ties() -> None:
    similarity, _ = instance(0, grid=True)
    gains = FacilityLocation(Given(similarity)).gains(np.arange(N))
    assert len(set(gains)) < N
