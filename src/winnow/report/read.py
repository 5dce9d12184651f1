"""Read what a report shows from the tables and figures of finished suites."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from winnow import figures
from winnow.errors import unknown
from winnow.evidence.collect import provenance_rows
from winnow.figures.layout import join_cost
from winnow.figures.pareto import overview_arms
from winnow.figures.style import save
from winnow.plan.plan import Plan
from winnow.report.inputs import FigureInput, ReportInput, SuiteInput
from winnow.store import read_json
from winnow.tables import read_table


def read_report(plan: Plan, suites: list[str], page: Path) -> ReportInput:
    """Return the report's content; draws the overview's figure into `figures/` beside the page."""
    parts = [read_suite(plan, name, page) for name in suites]
    table = pd.concat([join_cost(_ranked(part), part.cost) for part in parts], ignore_index=True)
    arms = overview_arms({part.name: part.arms for part in parts})
    module = figures.load("pareto")
    metrics = {part.metric for part in parts}
    metric = metrics.pop() if len(metrics) == 1 else "accuracy"
    figure, shown = figures.draw("pareto", table.assign(metric=metric), arms, metric=metric)
    stem = page.parent / "figures" / f"{page.stem}-pareto"
    save(figure, shown, stem)
    overview = FigureInput.read(stem, module.TITLE, module.CAPTION, f"figures/{stem.name}.pdf")
    return ReportInput(plan.config.scale, parts, [overview])


def _ranked(suite: SuiteInput) -> pd.DataFrame:
    return suite.summary[suite.summary["metric"] == suite.metric]


def read_suite(plan: Plan, name: str, page: Path) -> SuiteInput:
    """Return one suite's content; paths to figures are relative to the page."""
    suite, folder = plan.suites[name], plan.suite_folder(name)
    rows, summary = provenance_rows(plan, [name]), read_table(folder / "summary.parquet")
    if suite.metric not in set(summary["metric"]):
        raise unknown("metric", suite.metric, summary["metric"].unique(), f"suites/{name}.yaml: metric")
    return SuiteInput(
        name=name,
        title=suite.title,
        question=suite.question,
        source=suite.source.model_dump(),
        arms={key: {"label": arm.label, "role": arm.role} for key, arm in suite.arms.items()},
        summary=summary,
        claims=read_json(folder / "claims.json"),
        cost=read_table(folder / "cost.parquet"),
        reproduction=read_table(folder / "reproduction.parquet"),
        figures=[
            _figure(f.figure, folder / "figures" / (f.name or f.figure), page)
            for f in suite.figures_at(plan.config.scale)
        ],
        environment=_environment(rows),
        metric=suite.metric,
        provenance=[{key: value for key, value in row.items() if key != "facts"} for row in rows],
    )


def _figure(kind: str, stem: Path, page: Path) -> FigureInput:
    module = figures.load(kind)
    pdf = os.path.relpath(stem.with_suffix(".pdf"), page.parent)
    return FigureInput.read(stem, module.TITLE, module.CAPTION, pdf)


def _environment(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return where the artefacts were made; values that differ between them are all shown."""
    facts = [row["facts"] for row in rows]
    machines = {key: _all(f["machine"][key] for f in facts) for key in facts[0]["machine"]}
    packages = sorted({name for f in facts for name in f["packages"]})
    return machines | {
        "devices used": _all(row["device"] for row in rows),
        "first started": min(f["started"] for f in facts),
        "last finished": max(f["finished"] for f in facts),
        "git commit": _all(
            f"{f['git']['commit']}{' with changes' if f['git']['dirty'] else ''}" for f in facts
        ),
        "packages": {name: _all(f["packages"].get(name, "none") for f in facts) for name in packages},
    }


def _all(values: Iterable[object]) -> str:
    return " and ".join(sorted({str(value) for value in values}))
