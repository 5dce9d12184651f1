"""Write what two independent libraries choose on small instances, for tests/unit/test_golden.py.

Instances come from seeds. Half of them have values on a coarse grid, where gains tie all the time and are
exact in any order of summation. Each library runs its plain greedy.

  .venv/bin/python benchmarks/golden.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from apricot import FacilityLocationSelection, FeatureBasedSelection, GraphCutSelection
from submodlib import (
    DisparityMinFunction,
    DisparitySumFunction,
    FacilityLocationFunction,
    FeatureBasedFunction,
    GraphCutFunction,
    LogDeterminantFunction,
)
from submodlib_cpp import FeatureBased

OUT = Path(__file__).resolve().parent.parent / "tests/unit/golden/greedy.json"
N, BUDGET, RIDGE = 40, 15, 0.5


def instance(seed: int, grid: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return (similarities, features): (40, 40) with ones on the diagonal, and (40, 6) within 0 and 1."""
    random = np.random.default_rng(seed)
    rows = random.random((N, 6))
    similarity = np.exp(-((rows[:, None] - rows) ** 2).sum(axis=2))
    if grid:
        rows, similarity = np.round(4 * rows) / 4, np.round(8 * similarity) / 8
    low, high = rows.min(axis=0), rows.max(axis=0)
    return similarity.astype(np.float32), (rows - low) / (high - low)


def apricot(selector: Any, data: np.ndarray) -> dict[str, Any]:
    found = selector.fit(data.astype(np.float64))
    return {"picks": np.asarray(found.ranking).tolist(), "gains": np.asarray(found.gains).tolist()}


def submodlib(function: Any) -> dict[str, Any]:
    settings = {"stopIfZeroGain": False, "stopIfNegativeGain": False, "show_progress": False}
    found = function.maximize(BUDGET, optimizer="NaiveGreedy", **settings)
    return {"picks": [j for j, _ in found], "gains": [gain for _, gain in found]}


def dense(function: Callable[..., Any], matrix: np.ndarray, **settings: Any) -> dict[str, Any]:
    return submodlib(function(n=N, mode="dense", sijs=matrix, **settings))


def answers(similarity: np.ndarray, rows: np.ndarray) -> dict[str, dict[str, Any]]:
    """Return function -> library -> its picks and gains."""
    given: dict[str, Any] = {"metric": "precomputed", "optimizer": "naive"}
    features = FeatureBasedFunction(
        n=N, features=rows.tolist(), numFeatures=rows.shape[1], sparse=False, mode=FeatureBased.squareRoot
    )
    cut = GraphCutFunction(n=N, mode="dense", lambdaVal=1.0, separate_rep=False, ggsijs=similarity)
    return {
        "facility_location": {
            "apricot": apricot(FacilityLocationSelection(BUDGET, **given), similarity),
            "submodlib": dense(FacilityLocationFunction, similarity, separate_rep=False),
        },
        "graph_cut": {
            "apricot": apricot(GraphCutSelection(BUDGET, alpha=1, **given), similarity),
            "submodlib": submodlib(cut),
        },
        "feature_coverage": {
            "apricot": apricot(FeatureBasedSelection(BUDGET, concave_func="sqrt", optimizer="naive"), rows),
            "submodlib": submodlib(features),
        },
        "log_det": {"submodlib": dense(LogDeterminantFunction, similarity, lambdaVal=RIDGE)},
        "disparity_min": {"submodlib": dense(DisparityMinFunction, similarity)},
        "disparity_sum": {"submodlib": dense(DisparitySumFunction, similarity)},
    }


def main() -> None:
    cases = [
        {"seed": seed, "grid": grid, "answers": answers(*instance(seed, grid))}
        for grid in (False, True)
        for seed in range(5)
    ]
    made = {
        "command": "python benchmarks/golden.py",
        "versions": {name: version(name) for name in ("apricot-select", "submodlib-py")},
        "n": N,
        "budget": BUDGET,
        "ridge": RIDGE,
        "cases": cases,
    }
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
