"""The report's HTML: whole, self-contained, escaped, the same for the same input."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from report_sample import ARMS, cost_table, sample_input, sample_report, summary_table
from winnow.errors import UserError
from winnow.report import tables
from winnow.report.build import FigureInput, ReportInput, build_report
from winnow.report.claims import criterion
from winnow.report.markdown import results_page

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Collects what the tests ask about: tags with attributes, ids, headings, text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [attrs[name] for _, attrs in self.tags if name in attrs]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return sample_report(tmp_path_factory.mktemp("figures"))


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def without_figures(**changes: Any) -> ReportInput:
    return sample_input(None, **changes)


def test_same_input_same_bytes(html: str, tmp_path: Path) -> None:
    assert sample_report(tmp_path) == html


def test_nothing_is_loaded_from_anywhere(html: str, page: Page) -> None:
    for _, attrs in page.tags:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            assert attrs.get(name, "#").startswith(("#", "data:")), attrs
    assert not {tag for tag, _ in page.tags} & {
        "iframe",
        "object",
        "embed",
        "base",
        "video",
        "audio",
    }
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style
    policy = next(attrs["content"] for _, attrs in page.tags if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'")


def test_every_section_is_there_and_every_link_arrives(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    inner = [href[1:] for href in page.values("href") if href.startswith("#")]
    assert set(inner) <= set(ids)
    for part in ("figures", "results", "claims", "cost", "reproduction", "environment"):
        assert f"sas-{part}-heading" in inner
    for part in (
        "overview",
        "leaderboard-heading",
        "ledger-heading",
        "pareto-heading",
        "reading-heading",
    ):
        assert part in inner
    described = [attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs]
    assert set(described) <= set(ids)


def test_headings_do_not_skip_a_level(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_values_are_shown_with_interval_and_unit(html: str) -> None:
    row = summary_table().query("arm == 'sas_paper' and metric == 'test_accuracy'").iloc[0]
    shown = f"{100 * row['mean']:.1f} [{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]"
    assert shown in html
    assert "test accuracy (%)" in html


def test_leaderboard_ranks_by_mean_with_references_unranked() -> None:
    board = tables.leaderboard(without_figures())
    summary = summary_table()
    assert len(board.groups) == 2 * 3 * 2
    for group in board.groups:
        reference, *ranked = group.rows
        assert reference.cells[1].text == "full data" and reference.cells[0].key == ""
        means = [float(row.cells[2].key) for row in ranked]
        assert means == sorted(means, reverse=True)
        assert [row.cells[0].text for row in ranked] == ["1", "2", "3", "4", "5"]
    first = summary[
        (summary["dataset"] == "digits")
        & (summary["fraction"] == 0.2)
        & (summary["length"] == "epochs")
        & (summary["metric"] == "test_accuracy")
    ]
    best = first.sort_values("mean")["arm"].tolist()[-1]
    assert board.groups[0].rows[1].cells[1].text == ARMS[best]["label"]


def test_verdicts_are_words_not_only_colours(html: str) -> None:
    for verdict in (
        "supported",
        "not supported",
        "inconclusive",
        "not run",
        "reproduced",
        "differs",
    ):
        assert f"</svg>{verdict}</span>" in html


def test_claim_says_what_it_needs(page: Page) -> None:
    text = "".join(page.text)
    assert "SAS (paper) minus random exceeds 3 points" in text
    assert "SAS (paper) is less than 1 point below full data" in text
    assert "SAS (paper) over full data exceeds 0.99" in text
    assert "with cut value exceeds 0.8" in text
    assert "SAS (paper), SAS (released) minus random" in text
    assert "+4.1 [3.2, 5.0]" in text
    assert "paired t; interval: t" in text


def test_text_from_outside_is_escaped() -> None:
    arms = {**ARMS, "sas_paper": {"label": HOSTILE, "role": "method"}}
    claim = {
        **sample_input(None).suites[0].claims[0],
        "statement": HOSTILE,
        "reason": HOSTILE,
    }
    html = build_report(
        without_figures(
            arms=arms,
            title=HOSTILE,
            question=HOSTILE,
            source={
                HOSTILE: HOSTILE,
                "site": 'https://example.org/"onclick=alert(1)',
                "bad": "javascript:alert(1)",
            },
            claims=[claim],
            environment={HOSTILE: HOSTILE, "packages": {HOSTILE: HOSTILE}},
            provenance=[{"id": HOSTILE, "stage": HOSTILE}] * 20,
        )
    )
    page = Page(html)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not any(tag == "img" for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert not any(href.startswith("javascript") for href in page.values("href"))
    assert HOSTILE in "".join(page.text)


def test_empty_parts_say_so() -> None:
    suite = sample_input(None).suites[0]
    html = build_report(
        without_figures(
            claims=[],
            figures=[],
            reproduction=suite.reproduction.iloc[:0],
            provenance=[],
            environment={},
            cost=suite.cost.iloc[:0],
            summary=suite.summary.iloc[:0],
        )
    )
    for sentence in (
        "This suite lists no claims.",
        "No suite of this report lists a claim.",
        "This suite draws no figures.",
        "This suite lists no published numbers.",
        "No artefact was recorded.",
        "Nothing was recorded.",
        "Nothing was measured.",
    ):
        assert sentence in html
    assert "<title>" in build_report(ReportInput(scale="demo", suites=[]))


def test_one_seed_is_said_and_shows_no_brackets(tmp_path: Path) -> None:
    summary = summary_table(n_seeds=1)
    shown = sample_input(tmp_path, summary=summary, cost=cost_table(summary), claims=[])
    html = build_report(shown)
    assert "One seed per cell, so there are no intervals." in html
    board = tables.leaderboard(shown)
    assert not any("[" in row.cells[2].text for group in board.groups for row in group.rows)
    assert not re.search(r"\bnan\b", "".join(Page(html).text), re.IGNORECASE)


def test_missing_numbers_sort_last_and_show_a_dash() -> None:
    frame = pd.DataFrame({"value": [1.5, None]})
    cells = [tables.number_cell(value) for value in frame["value"]]
    assert [(cell.text, cell.key) for cell in cells] == [
        ("1.5", "1.5"),
        ("\N{EN DASH}", ""),
    ]


def test_results_page_has_a_line_per_arm_and_a_column_per_share() -> None:
    summary = summary_table(datasets=("digits",), fractions=(0.005, 0.3))
    about = dict.fromkeys(
        ("processor", "cores", "memory_gb", "devices used", "first started", "last finished"), "x"
    ) | {"packages": {"numpy": "2"}}
    changes = {"summary": summary, "cost": cost_table(summary), "environment": about}
    suite = without_figures(**changes).suites[0]
    page = results_page(suite, "demo", "snakemake sas", ["sas/a.png"])
    lines = page.splitlines()
    at = lines.index("| arm | 0.5 % | 30 % | 100 % |")
    assert lines[at - 2] == "**digits, equal epochs, seeds: 3**"
    assert len([line for line in lines[at + 2 :] if line][: len(ARMS)]) == len(ARMS)
    row = summary.query("arm == 'random' and fraction == 0.3 and length == 'epochs'").iloc[0]
    shown = f"{100 * row['mean']:.1f} [{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]"
    assert lines[at + 3].startswith("| random | ") and lines[at + 3].endswith(f" | {shown} |  |")


def test_figure_files_that_are_missing_or_no_png_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.png is missing"):
        FigureInput.read(tmp_path / "gone", "t", "c", "gone.pdf")
    for kind in ("png", "csv"):
        (tmp_path / f"bad.{kind}").write_bytes(b"nothing")
    with pytest.raises(UserError, match="'t' is not a PNG"):
        FigureInput.read(tmp_path / "bad", "t", "c", "bad.pdf").pixels()


def test_equivalence_and_a_number_as_baseline_are_said_in_words() -> None:
    suite: Any = SimpleNamespace(label={"random": "a random subset", "full": "full data"}.__getitem__)
    claim = {"kind": "equivalence", "metric": "ior", "arm": "random", "baseline": 0.0, "margin": 0.05}
    assert criterion(suite, claim) == "ior: a random subset is within 0.05 of 0"
    share = claim | {"metric": "test_accuracy", "baseline": "full"}
    assert criterion(suite, share) == "test accuracy: a random subset is within 5 points of full data"
    above = claim | {"kind": "superiority", "baseline": 0.268941, "margin": 0.0}
    assert criterion(suite, above) == "ior: a random subset minus 0.269 exceeds 0"
