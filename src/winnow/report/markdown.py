"""A suite's measured results as a Markdown page, for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from winnow.figures.units import duration, interval
from winnow.report.inputs import SuiteInput

METRIC = "test_accuracy"
INTRODUCTION = (
    "Test accuracy in percent, mean and 95 % interval over repetitions. Times are medians of processor time "
    "per repetition; selection holds proxy training, signals and the choice itself."
)


def results_page(suite: SuiteInput, scale: str, command: str, figures: list[str]) -> str:
    """Return the page: machine, figures, a table per dataset and training length, claims."""
    claims = [(claim["statement"], claim["verdict"], claim["reason"]) for claim in suite.claims]
    parts = [
        f"# {suite.title}: {scale} scale",
        f"Measured with `{command}`; this page is written by `scripts/publish.py`.",
        _machine(suite.environment),
        *(f"![{name}]({name})" for name in figures),
        "## Accuracy",
        INTRODUCTION,
        *_accuracy(suite),
        "## Claims",
        _table(("claim", "verdict", "why"), claims),
    ]
    return "\n\n".join(parts) + "\n"


def _machine(environment: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    hardware = f"{environment['processor']}, {environment['cores']} cores, {environment['memory_gb']} GB"
    times = f"{environment['first started']} to {environment['last finished']}"
    return f"{hardware}, devices: {environment['devices used']}; {times}. {packages}."


def _accuracy(suite: SuiteInput) -> Iterable[str]:
    rows = suite.summary[suite.summary["metric"] == METRIC]
    rows = rows.merge(suite.cost, on=["suite", "arm", "dataset", "fraction", "length"], validate="one_to_one")
    rows = rows.assign(place=rows["arm"].map({arm: place for place, arm in enumerate(suite.arms)}))
    head = ("kept", "arm", "test accuracy (%)", "seeds", "selection", "training")
    for (dataset, length), group in rows.groupby(["dataset", "length"]):
        ordered = group.sort_values(["fraction", "place"])
        yield f"**{dataset}, equal {length}**"
        yield _table(head, (_row(suite, row) for _, row in ordered.iterrows()))


def _row(suite: SuiteInput, row: pd.Series) -> tuple[str, ...]:
    accuracy = interval(row["mean"], row["ci_low"], row["ci_high"], METRIC)
    times = (duration(row["selection_cpu_s"]), duration(row["training_cpu_s"]))
    return f"{100 * row['fraction']:.0f} %", suite.label(row["arm"]), accuracy, str(row["n_seeds"]), *times


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines)
