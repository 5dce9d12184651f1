"""A suite's measured results as a Markdown page, for the documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import pandas as pd

from winnow.figures.units import duration, interval, metric_label, percent
from winnow.report.inputs import SuiteInput

INTRODUCTION = (
    "By share kept, mean and 95 % interval over repetitions. Below it, medians of "
    "processor time per repetition: selection (proxy training, signals and the choice itself) + training."
)


def results_page(suite: SuiteInput, scale: str, command: str, figures: list[str]) -> str:
    """Return the page: machine, figures, a table per dataset and training length, claims."""
    claims = [(claim["statement"], claim["verdict"], claim["reason"]) for claim in suite.claims]
    parts = [
        f"# {suite.title}: {scale} scale",
        f"Measured with `{command}`; this page is written by `scripts/publish.py`.",
        _machine(suite.environment),
        *(f"![{name}]({name})" for name in figures),
        f"## {metric_label(suite.metric).capitalize()}",
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
    rows = suite.summary[suite.summary["metric"] == suite.metric]
    rows = rows.merge(suite.cost, on=["suite", "arm", "dataset", "fraction", "length"], validate="one_to_one")
    rows = rows.assign(place=rows["arm"].map({arm: place for place, arm in enumerate(suite.arms)}))
    for (dataset, length), group in rows.groupby(["dataset", "length"]):
        seeds = " to ".join(str(count) for count in sorted({group["n_seeds"].min(), group["n_seeds"].max()}))
        yield f"**{dataset}, equal {length}, seeds: {seeds}**"
        for show in (partial(_mean, metric=suite.metric), _times):
            yield _by_share(suite, group.sort_values("place"), show)


def _by_share(suite: SuiteInput, rows: pd.DataFrame, show: Callable[[pd.Series], str]) -> str:
    """Return a table with a line per arm and a column per share kept."""
    shares = sorted(rows["fraction"].unique())
    lines = []
    for arm, own in rows.groupby("arm", sort=False):
        cells = {row["fraction"]: show(row) for _, row in own.iterrows()}
        lines.append((suite.label(str(arm)), *(cells.get(share, "") for share in shares)))
    return _table(("arm", *map(percent, shares)), lines)


def _mean(row: pd.Series, metric: str) -> str:
    return interval(row["mean"], row["ci_low"], row["ci_high"], metric)


def _times(row: pd.Series) -> str:
    return f"{duration(row['selection_cpu_s'])} + {duration(row['training_cpu_s'])}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines)
