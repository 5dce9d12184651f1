"""The claims ledger: a verdict on every claim of a suite, with the numbers that it rests on.

A cell (dataset, fraction, length) is

- supported if the one-sided test that the effect exceeds the margin (of an equivalence: the worse of the two
  tests that it lies above -margin and below margin) has a Holm-corrected p below 0.05, the family being all
  judged cells of all claims of the suite;
- not supported if the 95 % interval lies wholly on the other side of the margin (equivalently, the test in
  the other direction has an uncorrected p below 0.025);
- inconclusive otherwise: with fewer than 3 seeds (4 points for a correlation) always;
- not run if the baseline has no result there.

A claim is not supported if any cell is not, supported if all cells are, not run if it has no cell that was
run, else inconclusive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import numpy as np
import pandas as pd

from winnow.errors import UserError, one_of, unknown
from winnow.evidence.metrics import AXES, COST_COLUMNS, check_metrics, values_of
from winnow.evidence.paired import (
    CONFIDENCE,
    Comparison,
    compare,
    compare_ratio,
    compare_within,
    correlate,
    holm,
)
from winnow.plan.claims import CellFilter, ClaimSpec
from winnow.plan.config import ScaleName

ALPHA = 0.05


@dataclass(frozen=True)
class Cell:
    """One row of a claim's evidence; `fraction` is None for a correlation, whose points are fractions."""

    dataset: str
    fraction: float | None
    length: str
    n_seeds: int
    effect: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    interval: str = "none"
    p: float | None = None
    p_holm: float | None = None
    p_opposite: float | None = None
    test: str = "none"
    dz: float | None = None
    mean_arm: float | None = None
    mean_baseline: float | None = None
    verdict: str = "inconclusive"
    note: str = ""


def judge(claims: Sequence[ClaimSpec], metrics: pd.DataFrame, scale: str) -> list[dict[str, Any]]:
    """Judge the claims of one suite on its metrics at one scale; return the ledger, ready for JSON.

    One entry per claim: id, statement, source, kind, made_at, scale, metric, with, arm (as text), arms,
    baseline, margin, verdict, reason, cells (the fields of `Cell`). Raises `UserError` for an unknown scale,
    metrics of several suites, a broken table (`check_metrics`), and seeds that only one of two arms has.
    """
    if scale not in get_args(ScaleName):
        raise unknown("scale", scale, get_args(ScaleName), "claims")
    table = check_metrics(metrics)
    if table["suite"].nunique() > 1:
        raise UserError(f"claims: metrics of suites {one_of(table['suite'].unique())}. Judge one at a time.")
    cells = [_correlations(c, table) if c.kind == "correlation" else _comparisons(c, table) for c in claims]
    tested = [cell.p for group in cells for cell in group if cell.p is not None]
    corrected = iter(holm(tested))
    judged = [[_decide(cell, corrected) for cell in group] for group in cells]
    return [_entry(claim, group, table, scale) for claim, group in zip(claims, judged, strict=True)]


def _comparisons(claim: ClaimSpec, table: pd.DataFrame) -> list[Cell]:
    """Compare arm and baseline on every cell of the arm; the baseline's own axes are not matched."""
    values = values_of(table, claim.metric)
    arm = _keep(values[values["arm"] == claim.arm], claim.where)
    if isinstance(claim.baseline, float):
        baseline = arm.assign(value=claim.baseline)
    else:
        baseline = _keep(values[values["arm"] == claim.baseline], claim.where_baseline)
    matched = [axis for axis in AXES if axis not in claim.where_baseline.named()]
    cells = []
    for key, rows in arm.groupby(list(AXES)):
        place: dict[str, Any] = dict(zip(AXES, key, strict=True))
        other = baseline
        for axis in matched:
            other = other[other[axis] == place[axis]]
        cell = Cell(**place, n_seeds=rows["seed"].nunique())
        if other.empty:
            cells.append(replace(cell, verdict="not run", note=f"'{claim.baseline}' has no result here"))
        elif claim.metric in COST_COLUMNS and pd.concat([rows, other])["device"].nunique() > 1:
            cells.append(replace(cell, note="costs on different devices do not compare"))
        else:
            cells.append(_filled(cell, _compared(claim, rows, other, place)))
    return cells


def _compared(
    claim: ClaimSpec, arm: pd.DataFrame, baseline: pd.DataFrame, place: dict[str, Any]
) -> Comparison:
    a, b = arm.set_index("seed")["value"], baseline.set_index("seed")["value"]
    try:
        if claim.kind == "equivalence":
            return compare_within(a, b, margin=claim.margin)
        test = compare_ratio if claim.kind == "ratio" else compare
        return test(a, b, margin=claim.threshold, alternative="greater")
    except UserError as error:
        cell = ", ".join(f"{axis}={value}" for axis, value in place.items())
        where = f"claim '{claim.id}', {claim.arm} against {claim.baseline}, {cell}"
        raise UserError(f"{where}: {error}") from error


def _correlations(claim: ClaimSpec, table: pd.DataFrame) -> list[Cell]:
    """Correlate two metrics within each (dataset, length); a point is the seed mean of (arm, fraction)."""
    assert claim.with_metric is not None
    keys = ["dataset", "length", "arm", "fraction", "seed"]
    x, y = (
        _keep(frame[frame["arm"].isin(claim.arms)], claim.where).set_index(keys)["value"]
        for frame in (values_of(table, claim.metric), values_of(table, claim.with_metric))
    )
    if x.empty or y.empty:
        return []
    lone = x.index.symmetric_difference(y.index)
    if len(lone):
        where = ", ".join(f"{name}={value}" for name, value in zip(keys, lone[0], strict=True))
        both = f"'{claim.metric}' and '{claim.with_metric}'"
        raise UserError(f"claim '{claim.id}': {both} are not both measured for {where}. Measure both there.")
    pairs = pd.DataFrame({"x": x, "y": y})
    cells = []
    for key, group in pairs.groupby(["dataset", "length"]):
        points = group.groupby(["arm", "fraction"])
        means = points.mean()
        result = correlate(
            means["x"].to_numpy(), means["y"].to_numpy(), margin=claim.margin, coefficient=claim.coefficient
        )
        dataset, length = map(str, key)
        cells.append(_filled(Cell(dataset, None, length, n_seeds=int(points.size().min())), result))
    return cells


def _keep(rows: pd.DataFrame, where: CellFilter) -> pd.DataFrame:
    for axis, kept in where.named().items():
        accepted = np.round(np.array(kept, dtype=float), 6) if axis == "fraction" else kept
        rows = rows[rows[axis].isin(list(accepted))]
    return rows


def _filled(cell: Cell, result: Comparison) -> Cell:
    return replace(
        cell,
        effect=result.effect,
        ci_low=result.ci_low,
        ci_high=result.ci_high,
        interval=result.interval,
        p=result.p_value,
        p_opposite=result.p_opposite,
        test=result.test,
        dz=result.dz,
        mean_arm=result.mean_arm,
        mean_baseline=result.mean_baseline,
        note=result.note,
    )


def _decide(cell: Cell, corrected: Iterator[float]) -> Cell:
    if cell.p is None or cell.p_opposite is None:
        return cell
    p_holm = next(corrected)
    if p_holm < ALPHA:
        return replace(cell, p_holm=p_holm, verdict="supported")
    if cell.p_opposite < (1 - CONFIDENCE) / 2:
        return replace(cell, p_holm=p_holm, verdict="not supported")
    return replace(cell, p_holm=p_holm)


def _verdict(cells: list[Cell]) -> str:
    found = {cell.verdict for cell in cells}
    if found <= {"not run"}:
        return "not run"
    if "not supported" in found:
        return "not supported"
    return "supported" if found == {"supported"} else "inconclusive"


def _entry(claim: ClaimSpec, cells: list[Cell], table: pd.DataFrame, scale: str) -> dict[str, Any]:
    verdict = _verdict(cells)
    return {
        "id": claim.id,
        "statement": claim.statement,
        "source": claim.source,
        "kind": claim.kind,
        "made_at": claim.made_at,
        "scale": scale,
        "metric": claim.metric,
        "with": claim.with_metric,
        "arm": ", ".join(claim.arms),
        "arms": list(claim.arms),
        "baseline": claim.baseline,
        "margin": claim.margin,
        "verdict": verdict,
        "reason": _reason(claim, verdict, cells, table, scale),
        "cells": [asdict(cell) for cell in cells],
    }


def _reason(claim: ClaimSpec, verdict: str, cells: list[Cell], table: pd.DataFrame, scale: str) -> str:
    """Say in one sentence what decided: the weakest of the cells that carry the verdict."""
    rest = _absent(claim, table)
    if claim.made_at != scale:
        rest += f"; judged at the {scale} scale, made at the {claim.made_at} scale"
    if verdict == "not run":
        return f"No results of {_compared_names(claim)} for this claim{rest}."
    found = {cell.verdict for cell in cells}
    decisive = verdict if verdict in found else "not run"
    carrying = [cell for cell in cells if cell.verdict == decisive]
    weakest = max(carrying, key=lambda cell: 2.0 if cell.p is None else cell.p)
    share = f"{decisive.capitalize()} in {len(carrying)} of {len(cells)} cells"
    between = f"between -{claim.margin:g} and {claim.margin:g}"
    asked = (
        f"the claim asks for {between if claim.kind == 'equivalence' else f'more than {claim.threshold:g}'}"
    )
    return f"{share}; {_numbers(claim, weakest)}; {asked}{rest}."


def _numbers(claim: ClaimSpec, cell: Cell) -> str:
    at = "" if cell.fraction is None else f", fraction {cell.fraction:g}"
    where = f"on {cell.dataset}{at}, equal {cell.length}"
    if cell.effect is None:
        return f"{where}: {cell.note}"
    text = f"{where}, {_effect_name(claim)} is {cell.effect:.4g}"
    if cell.ci_low is None or cell.ci_high is None or cell.p_holm is None:
        return f"{text}, {cell.note}"
    interval = f"95 % interval {cell.ci_low:.4g} to {cell.ci_high:.4g}"
    note = f", {cell.note}" if cell.note else ""
    return f"{text} ({interval}, {cell.n_seeds} seeds, Holm p = {cell.p_holm:.2g}{note})"


def _effect_name(claim: ClaimSpec) -> str:
    if claim.kind == "correlation":
        return f"the correlation of {claim.metric} with {claim.with_metric}"
    sign = "over" if claim.kind == "ratio" else "minus"
    return f"{claim.metric} of {claim.arm} {sign} {claim.baseline}"


def _compared_names(claim: ClaimSpec) -> str:
    if claim.kind == "correlation":
        return f"{claim.metric} and {claim.with_metric} ({', '.join(claim.arms)})"
    return f"{claim.metric} of {claim.arm} and {claim.baseline}"


def _absent(claim: ClaimSpec, table: pd.DataFrame) -> str:
    """Name the values of `where` that have no result, so that a narrower grid is never silent."""
    rows = table[table["arm"].isin(claim.arms)]
    missing = []
    for axis, kept in claim.where.named().items():
        have = set(rows[axis])
        missing += [f"{axis} {v}" for v in kept if (round(v, 6) if isinstance(v, float) else v) not in have]
    return f"; no results at {', '.join(missing)}" if missing else ""
