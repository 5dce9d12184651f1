"""A small table of metrics, as the evaluation stage writes it, for the tests of the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

COSTS = {
    "selection_wall_s": 1.0,
    "selection_cpu_s": 2.0,
    "training_wall_s": 10.0,
    "training_cpu_s": 20.0,
    "evaluation_wall_s": 3.0,
    "evaluation_cpu_s": 6.0,
    "total_wall_s": 14.0,
    "peak_memory_gb": 0.5,
    "bytes_written": 1000,
}


def rows(arm: str, values: Sequence[float], **fields: Any) -> list[dict[str, Any]]:
    """Return one metrics row per value, for seeds 0, 1, ..., with `fields` in place of the defaults."""
    base: dict[str, Any] = {
        "suite": "sas",
        "arm": arm,
        "method": arm,
        "variant": "paper",
        "dataset": "digits",
        "fraction": 0.2,
        "budget": 200,
        "length": "epochs",
        "metric": "test_accuracy",
        "n": 500,
        "metric_version": 1,
        "device": "cpu",
        "artefact": f"evaluate/{arm}",
        **COSTS,
    }
    return [base | {"seed": seed, "value": value} | fields for seed, value in enumerate(values)]


def table(*groups: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Join the rows of several arms."""
    return pd.DataFrame([row for group in groups for row in group])
