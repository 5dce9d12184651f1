"""Paired differences of the arms to a baseline, ready to be drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from winnow.errors import UserError
from winnow.evidence.differences import differences
from winnow.evidence.metrics import AXES
from winnow.figures.layout import GAPS, choose, is_reference, of_metric


def gaps_to(
    values: pd.DataFrame,
    arms: Mapping[str, Any],
    metric: str,
    baseline: str,
    length: str | None = None,
    only: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return the paired differences to the baseline per cell, in a fixed order, with each arm's label.

    Args:
        values: one row per cell, seed and metric.
        baseline: an arm; a reference is compared with at every share and length of its dataset.

    Raises:
        UserError: the metric, the length or an arm is not known, or no cell can be compared.
    """
    matched = ["dataset"] if is_reference(arms, baseline) else AXES
    found = differences(of_metric(values, metric), metric, baseline, matched)
    if found.empty:
        raise UserError(f"figure: no arm has a result in a cell of the baseline '{baseline}'. Name another.")
    return choose(found.assign(metric=metric), arms, metric, length, only=only, shown=GAPS)
