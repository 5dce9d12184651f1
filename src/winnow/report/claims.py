"""The claims ledger as views: criterion in words, verdict, and the cells it was judged on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from winnow.figures.units import MISSING, is_missing, is_share, length_label, measure, number, percent
from winnow.report.inputs import SuiteInput
from winnow.report.tables import Cell, Column, Group, Row, Table, number_cell, signed

VERDICTS = ("supported", "not supported", "inconclusive", "not run")
DIFFERENCES = ("superiority", "non_inferiority", "equivalence")


@dataclass(frozen=True)
class ClaimView:
    """One claim as the page shows it."""

    anchor: str
    suite: str
    statement: str
    source: str
    made_at: str
    scale: str
    criterion: str
    verdict: str
    reason: str
    tally: str
    test: str
    cells: Table | None


def view(suite: SuiteInput, claim: Mapping[str, Any]) -> ClaimView:
    """Return the view of one claim."""
    anchor = f"{suite.name}-claim-{claim['id']}"
    cells = list(claim.get("cells") or [])
    held = sum(cell["verdict"] == "supported" for cell in cells)
    return ClaimView(
        anchor,
        suite.name,
        claim["statement"],
        str(claim.get("source") or ""),
        str(claim.get("made_at") or ""),
        str(claim.get("scale") or ""),
        criterion(suite, claim),
        claim["verdict"],
        str(claim.get("reason") or ""),
        f"{held} of {len(cells)}" if cells else MISSING,
        _test(cells),
        _cells(f"{anchor}-cells", claim, cells) if cells else None,
    )


def criterion(suite: SuiteInput, claim: Mapping[str, Any]) -> str:
    """Say in words what the interval must show for the claim to be supported."""
    metric = str(claim["metric"])
    name = metric.replace("_", " ")
    arm = ", ".join(suite.label(name) for name in claim.get("arms") or [claim["arm"]])
    level = claim.get("baseline")
    baseline = number(level) if isinstance(level, float) else suite.label(str(level))
    margin = claim.get("margin") or 0.0
    if claim["kind"] == "superiority":
        return f"{name}: {arm} minus {baseline} exceeds {_margin(margin, metric)}"
    if claim["kind"] == "non_inferiority":
        return f"{name}: {arm} is less than {_margin(margin, metric)} below {baseline}"
    if claim["kind"] == "equivalence":
        return f"{name}: {arm} is within {_margin(margin, metric)} of {baseline}"
    if claim["kind"] == "ratio":
        return f"{name}: {arm} over {baseline} exceeds {number(margin)}"
    other = str(claim.get("with") or "the other metric").replace("_", " ")
    return f"correlation of {name} of {arm} with {other} exceeds {number(margin)}"


def _test(cells: Sequence[Mapping[str, Any]]) -> str:
    tests = sorted({str(cell.get("test")) for cell in cells} - {"None", "none"})
    intervals = sorted({str(cell.get("interval")) for cell in cells} - {"None", "none"})
    return ", ".join(tests) + (f"; interval: {', '.join(intervals)}" if intervals else "")


def _margin(margin: float, metric: str) -> str:
    points = number(round(100 * margin, 6))
    return f"{points} point{'' if points == '1' else 's'}" if is_share(metric) else number(margin)


def _cells(anchor: str, claim: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> Table:
    metric = str(claim["metric"]) if claim["kind"] in DIFFERENCES else ""
    noted = any(cell.get("note") for cell in cells)
    rows = [
        Row(
            [
                Cell(str(cell["dataset"])),
                number_cell(cell["fraction"], percent),
                Cell(length_label(cell["length"])),
                Cell(_effect(cell, metric), "" if is_missing(cell["effect"]) else float(cell["effect"])),
                number_cell(cell.get("p"), _p_value),
                number_cell(cell.get("p_holm"), _p_value),
                number_cell(cell["n_seeds"]),
                Cell(str(cell["verdict"]), kind="verdict"),
                *([Cell(str(cell.get("note") or ""), kind="prose")] if noted else []),
            ]
        )
        for cell in cells
    ]
    unit = " (points)" if is_share(metric) else ""
    columns = [Column("dataset", names_row=True), Column("kept", True), Column("training")]
    columns += [Column(f"effect{unit}", True), Column("p", True)]
    columns += [Column("p, Holm", True), Column("seeds", True)]
    columns += [Column("verdict"), *([Column("note")] if noted else [])]
    return Table(anchor, f"Cells of the claim: {claim['statement']}", columns, [Group(rows)])


def _effect(cell: Mapping[str, Any], metric: str) -> str:
    show = (lambda value: signed(value, metric)) if metric else number
    if is_missing(cell.get("ci_low")) or is_missing(cell.get("ci_high")):
        return str(show(cell["effect"]))
    low, high = (
        (measure(cell[end], metric) if metric else number(cell[end])) for end in ("ci_low", "ci_high")
    )
    return f"{show(cell['effect'])} [{low}, {high}]"


def _p_value(value: Any) -> str:
    return MISSING if is_missing(value) else "<0.0001" if value < 1e-4 else f"{value:.2g}"


def tally(views: Iterable[ClaimView]) -> list[tuple[str, int]]:
    """Return how many claims have each verdict, all four always."""
    counts = Counter(claim.verdict for claim in views)
    return [(verdict, counts[verdict]) for verdict in VERDICTS]
