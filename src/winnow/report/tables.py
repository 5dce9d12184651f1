"""From data to table views: what each cell shows, what it sorts by, what a reader can filter on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from markupsafe import Markup

from winnow.figures.units import (
    MISSING,
    duration,
    interval,
    is_missing,
    is_share,
    length_label,
    measure,
    metric_label,
    number,
    percent,
    size,
)
from winnow.report.inputs import ReportInput, SuiteInput
from winnow.report.marks import Span, cost_bar, whisker

FILTER_FROM = 12


@dataclass(frozen=True)
class Cell:
    """One table cell: its text, the value it sorts by, a small drawing beside the text, and how it is set."""

    text: str
    sort: float | str | None = None
    mark: Markup | None = None
    kind: str = ""

    @property
    def key(self) -> str:
        """Return the sort key as text; a missing number is empty and sorts last."""
        value = self.text if self.sort is None else self.sort
        return "" if is_missing(value) or value == MISSING else str(value)


@dataclass(frozen=True)
class Column:
    """One column: head, whether it sorts as numbers, whether it names its row, an explanation of the head."""

    head: str
    numeric: bool = False
    names_row: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Row:
    """One row: its cells, the values of the table's facets, and a class for special rows."""

    cells: list[Cell]
    facets: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Group:
    """Rows under a common head; a table without heads is one group with an empty title."""

    rows: list[Row]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table for the page; large ones get a filter box, facets get a menu each."""

    id: str
    caption: str
    columns: list[Column]
    groups: list[Group]
    facets: list[tuple[str, list[str]]] = field(default_factory=list)
    tall: bool = False

    @property
    def n_rows(self) -> int:
        """Return the number of rows in all groups."""
        return sum(len(group.rows) for group in self.groups)

    @property
    def filtered(self) -> bool:
        """Return whether the table is large enough for a filter box."""
        return self.n_rows >= FILTER_FROM


def number_cell(value: Any, show: Any = number) -> Cell:
    """Return a cell that shows a number with `show` and sorts by it."""
    return Cell(show(value), "" if is_missing(value) else float(value))


def facets_of(names: Sequence[str], groups: Sequence[Group]) -> list[tuple[str, list[str]]]:
    """Return each facet with its values in order of appearance; one value is no choice: left empty."""
    rows = [row for group in groups for row in group.rows]
    values = [list(dict.fromkeys(row.facets[i] for row in rows)) for i in range(len(names))]
    return [(name, found if len(found) > 1 else []) for name, found in zip(names, values, strict=True)]


def leaderboard(report: ReportInput) -> Table:
    """Rank the arms by mean within each suite, dataset, share and length; references are unranked."""
    groups: list[Group] = []
    for suite in report.suites:
        rows = suite.summary[suite.summary["metric"] == suite.metric]
        costs = _cost_of(suite)
        for (dataset, fraction, length), cell in rows.groupby(["dataset", "fraction", "length"], sort=True):
            if not all(suite.role(arm) == "reference" for arm in cell["arm"]):
                here = rows[rows["dataset"] == dataset]
                place = (suite.title, str(dataset), percent(float(str(fraction))), length_label(str(length)))
                groups.append(_ranking(suite, suite.metric, cell, here, costs, place))
    units = list(dict.fromkeys(metric_label(suite.metric) for suite in report.suites))
    unit = units[0] if len(units) == 1 else "result"
    columns = [
        Column("rank", True),
        Column("arm", names_row=True),
        Column(unit, True, hint="mean and 95 % interval, drawn on the dataset's range; dashed: reference"),
        Column("gap", True, hint="difference to the mean of the reference arm (full data)"),
        Column("total cost", True, hint="median processor time: selection, training and evaluation"),
        Column("ratio", True, hint="total cost relative to the reference arm"),
        Column("seeds", True),
    ]
    facets = facets_of(("suite", "dataset", "kept", "training"), groups)
    return Table("leaderboard", "Leaderboard", columns, groups, facets, tall=True)


def _cell(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    return row["arm"], row["dataset"], row["fraction"], row["length"]


def _cost_of(suite: SuiteInput) -> dict[tuple[Any, ...], Mapping[Any, Any]]:
    return {_cell(row): row for row in suite.cost.to_dict("records")}


def _ranking(
    suite: SuiteInput,
    metric: str,
    cell: pd.DataFrame,
    here: pd.DataFrame,
    costs: Mapping[tuple[Any, ...], Mapping[Any, Any]],
    facets: tuple[str, ...],
) -> Group:
    reference = here[here["arm"].map(suite.role) == "reference"].drop_duplicates("arm")
    level = float(reference["mean"].iloc[0]) if len(reference) else None
    span = Span.of(here, level)
    contenders = cell[cell["arm"].map(suite.role) != "reference"].sort_values(
        ["mean", "arm"], ascending=[False, True]
    )
    ranked = [(str(place + 1), row) for place, row in enumerate(contenders.to_dict("records"))]
    unranked = [(MISSING, row) for row in reference.to_dict("records")]
    rows = []
    for rank, row in unranked + ranked:
        cost = costs.get(_cell(row), {})
        gap = None if level is None else row["mean"] - level
        cells = [
            Cell(rank, "" if rank == MISSING else float(rank)),
            Cell(suite.label(row["arm"])),
            interval_cell(row, metric, span),
            number_cell(gap, lambda value: signed(value, metric)),
            number_cell(cost.get("total_cpu_s"), duration),
            number_cell(cost.get("relative_total"), ratio),
            number_cell(row["n_seeds"]),
        ]
        rows.append(Row(cells, facets, "reference" if rank == MISSING else ""))
    _, dataset, kept, training = facets
    return Group(rows, f"{suite.name} · {dataset} · {kept} kept · {training}")


def interval_cell(row: Mapping[Any, Any], metric: str, span: Span | None = None, value: str = "mean") -> Cell:
    """Return a mean with its interval, sorted by the mean, with its mark when a span is given."""
    mark = None if span is None else whisker(row[value], row["ci_low"], row["ci_high"], span)
    text = interval(row[value], row["ci_low"], row["ci_high"], metric)
    return Cell(text, "" if is_missing(row[value]) else float(row[value]), mark)


def signed(value: Any, metric: str) -> str:
    """Show a difference with its sign; differences of shares are in points."""
    text = measure(value, metric)
    return f"+{text}" if not is_missing(value) and value > 0 else text


def ratio(value: Any) -> str:
    """Show a ratio with two decimals and a multiplication sign."""
    return MISSING if is_missing(value) else f"{value:.2f} \N{MULTIPLICATION SIGN}"


def results(suite: SuiteInput, metric: str) -> Table:
    """Return the summary: every arm, dataset, share, length and metric with its interval, `metric` first."""
    order = {arm: place for place, arm in enumerate(suite.arms)}
    frame = suite.summary.assign(_order=suite.summary["arm"].map(lambda arm: order.get(arm, len(order))))
    frame = frame.assign(_other=frame["metric"] != metric)
    frame = frame.sort_values(["_other", "metric", "dataset", "length", "fraction", "_order"], kind="stable")
    rows = [
        Row(
            [
                Cell(suite.label(row["arm"])),
                interval_cell(row, row["metric"]),
                number_cell(row["sd"], lambda value, metric=row["metric"]: _spread(value, metric)),
                number_cell(row["n_seeds"]),
                Cell(metric_label(row["metric"])),
                Cell(row["dataset"]),
                Cell(percent(row["fraction"]), row["fraction"]),
                Cell(length_label(row["length"])),
            ],
            (
                metric_label(row["metric"]),
                row["dataset"],
                percent(row["fraction"]),
                length_label(row["length"]),
            ),
            "reference" if suite.role(row["arm"]) == "reference" else "",
        )
        for row in frame.to_dict("records")
    ]
    columns = [
        Column("arm", names_row=True),
        Column("mean [95 % interval]", True),
        Column("sd", True, hint="standard deviation over seeds, in the metric's unit"),
        Column("seeds", True),
        Column("metric"),
        Column("dataset"),
        Column("kept", True),
        Column("training"),
    ]
    groups = [Group(rows)]
    facets = facets_of(("metric", "dataset", "kept", "training"), groups)
    return Table(f"{suite.name}-results", "Results", columns, groups, facets, tall=True)


def _spread(value: Any, metric: str) -> str:
    return MISSING if is_missing(value) else f"{100 * value:.2f}" if is_share(metric) else number(value)


def costs(suite: SuiteInput) -> Table:
    """Return what every cell cost, selection and training apart."""
    top = float(suite.cost["total_wall_s"].max()) if len(suite.cost) else 1.0
    rows = [
        Row(
            [
                Cell(suite.label(row["arm"])),
                Cell(row["dataset"]),
                Cell(percent(row["fraction"]), row["fraction"]),
                Cell(length_label(row["length"])),
                Cell(duration(row["total_wall_s"]), row["total_wall_s"], cost_bar(row, top)),
                number_cell(row["relative_total"], ratio),
                number_cell(row["selection_wall_s"], duration),
                number_cell(row["training_wall_s"], duration),
                number_cell(row["evaluation_wall_s"], duration),
                number_cell(row["selection_cpu_s"], duration),
                number_cell(row["training_cpu_s"], duration),
                number_cell(row["total_cpu_s"], duration),
                number_cell(row["peak_memory_gb"], gigabytes),
                number_cell(row["bytes_written"], size),
            ],
            (row["dataset"], percent(row["fraction"]), length_label(row["length"])),
            "reference" if suite.role(row["arm"]) == "reference" else "",
        )
        for row in suite.cost.to_dict("records")
    ]
    heads = (
        "total",
        "ratio",
        "selection",
        "training",
        "evaluation",
        "selection CPU",
        "training CPU",
        "total CPU",
    )
    columns = [
        Column("arm", names_row=True),
        Column("dataset"),
        Column("kept", True),
        Column("training length"),
    ]
    columns += [Column(head, True) for head in (*heads, "peak memory", "written")]
    groups = [Group(rows)]
    facets = facets_of(("dataset", "kept", "training"), groups)
    return Table(f"{suite.name}-cost", "Cost per repetition", columns, groups, facets, tall=True)


def gigabytes(value: Any) -> str:
    """Show gigabytes: `0.61 GB`."""
    return MISSING if is_missing(value) else f"{number(value)} GB"


def reproduction(suite: SuiteInput) -> Table:
    """Return the paper's numbers next to ours."""
    rows = [
        Row(
            [
                Cell(suite.label(row["arm"])),
                Cell(row["dataset"]),
                Cell(percent(row["fraction"]), row["fraction"]),
                Cell(metric_label(row["metric"])),
                number_cell(row["paper_value"], lambda value, metric=row["metric"]: measure(value, metric)),
                interval_cell(row, row["metric"], value="ours"),
                Cell(_text(row["status"]), kind="verdict"),
                number_cell(row["n_seeds"]),
                Cell(_text(row.get("source"))),
                Cell(_text(row["mark"])),
                Cell(_text(row["reason"]), kind="prose"),
                Cell(_text(row["command"]), kind="code"),
            ]
        )
        for row in suite.reproduction.to_dict("records")
    ]
    columns = [Column("arm", names_row=True), Column("dataset"), Column("kept", True), Column("metric")]
    columns += [Column("paper", True), Column("ours [95 % interval]", True), Column("status")]
    columns += [Column("seeds", True), Column("source")]
    columns += [Column("evidence", hint="how the paper's number is known")]
    columns += [Column("reason"), Column("command")]
    return Table(f"{suite.name}-reproduction", "The paper's numbers and ours", columns, [Group(rows)])


def provenance(suite: SuiteInput) -> Table:
    """Return the artefacts with their time, memory, size and digests."""
    rows = [
        Row(
            [
                Cell(_text(item.get("id")), kind="code"),
                Cell(_text(item.get("stage"))),
                number_cell(item.get("wall_s"), duration),
                number_cell(item.get("cpu_s"), duration),
                number_cell(item.get("peak_rss_gb"), gigabytes),
                number_cell(item.get("bytes"), size),
                Cell(_text(item.get("host"))),
                Cell(_text(item.get("device"))),
                Cell(_text(item.get("code")), kind="code"),
            ],
            (_text(item.get("stage")),),
        )
        for item in suite.provenance
    ]
    columns = [Column("artefact", names_row=True, hint="ends with the digest of its specification")]
    columns += [Column("stage")]
    columns += [Column(head, True) for head in ("wall", "CPU", "peak memory", "written")]
    columns += [Column("host"), Column("device"), Column("code digest")]
    groups = [Group(rows)]
    facets = facets_of(("stage",), groups)
    return Table(f"{suite.name}-provenance", "Artefacts", columns, groups, facets, tall=True)


def _text(value: Any) -> str:
    return MISSING if is_missing(value) or value == "" else str(value)
