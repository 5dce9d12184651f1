"""Fill the page's templates: everything the page needs is inside it, equal input gives equal bytes."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from winnow.figures.units import MISSING, is_missing, number
from winnow.report import claims, tables
from winnow.report.inputs import FigureInput, ReportInput, SuiteInput

__all__ = ["FigureInput", "ReportInput", "SuiteInput", "build_report"]

# Figures are drawn with 200 dots per inch; an inch is 96 px in CSS, and they may grow a little on a page.
GROWTH = 1.3 * 96 / 200


@dataclass(frozen=True)
class FigureView:
    """A figure with its files as data URIs."""

    title: str
    caption: str
    image: str
    table: str
    csv_name: str
    pdf_path: str
    width: int
    height: int
    shown_width: int


@dataclass(frozen=True)
class SuiteView:
    """A suite's section with its tables made."""

    name: str
    title: str
    question: str
    source: Mapping[str, Any]
    figures: list[FigureView]
    seeds: str
    results: tables.Table
    claims: list[claims.ClaimView]
    costs: tables.Table
    reproduction: tables.Table
    environment: Mapping[str, Any]
    provenance: tables.Table


def build_report(pages: ReportInput) -> str:
    """Return the report as one HTML document that loads nothing from anywhere."""
    suites = [_suite(suite) for suite in pages.suites]
    ledger = [claim for suite in suites for claim in suite.claims]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            scale=pages.scale,
            suites=suites,
            figures=[_figure(figure) for figure in pages.figures],
            leaderboard=tables.leaderboard(pages),
            ledger=ledger,
            tally=claims.tally(ledger),
            style=_asset("style.css"),
            script=_asset("table.js"),
        )
    )


def _suite(suite: SuiteInput) -> SuiteView:
    return SuiteView(
        suite.name,
        suite.title,
        suite.question,
        suite.source,
        [_figure(figure) for figure in suite.figures],
        _seeds(suite),
        tables.results(suite, suite.metric),
        [claims.view(suite, claim) for claim in suite.claims],
        tables.costs(suite),
        tables.reproduction(suite),
        suite.environment,
        tables.provenance(suite),
    )


def _seeds(suite: SuiteInput) -> str:
    found = sorted({int(count) for count in suite.summary["n_seeds"]})
    if found == [1]:
        return "One seed per cell, so there are no intervals."
    if not found:
        return ""
    many = str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"
    methods = sorted({str(name) for name in suite.summary.get("interval", ())} - {"none", "all values equal"})
    return f"{many} seeds per cell." + (f" Intervals: {', '.join(methods)}." if methods else "")


def _figure(figure: FigureInput) -> FigureView:
    width, height = figure.pixels()
    return FigureView(
        figure.title,
        figure.caption,
        "data:image/png;base64," + b64encode(figure.png).decode("ascii"),
        "data:text/csv;charset=utf-8;base64," + b64encode(figure.csv).decode("ascii"),
        figure.csv_name,
        figure.pdf_path,
        width,
        height,
        round(width * GROWTH),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("winnow.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = _plain
    environment.filters["words"] = lambda key: str(key).replace("_", " ")
    environment.tests["mapping_like"] = lambda value: isinstance(value, Mapping)
    return environment


def _plain(value: Any) -> str:
    """Show a value of the environment: yes or no, numbers without noise, lists joined."""
    if is_missing(value):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, 4)
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return str(value)


def _asset(name: str) -> Markup:
    """Return a style sheet or script of the package: first-party text, inlined as it is."""
    return Markup(files("winnow.report").joinpath("templates", name).read_text("utf-8"))
