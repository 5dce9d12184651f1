"""What a report is made of: tables, claims and figure files, per suite."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from winnow.errors import UserError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class FigureInput:
    """One figure: title, caption, PNG, the CSV of the rows it shows, and where its PDF lies (as text)."""

    title: str
    caption: str
    png: bytes
    csv: bytes
    csv_name: str
    pdf_path: str

    @classmethod
    def read(cls, stem: Path, title: str, caption: str, pdf_path: str) -> FigureInput:
        """Read the files that `winnow.figures.style.save` wrote under `stem`.

        Args:
            stem: path without suffix.
            pdf_path: the PDF's path as the reader of the page should see it, e.g. relative to the report.

        Raises:
            UserError: a file is missing.
        """
        files = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "csv")}
        for path in files.values():
            if not path.is_file():
                raise UserError(
                    f"report: figure file {path} is missing. Draw the figures again: make report."
                )
        return cls(
            title, caption, files["png"].read_bytes(), files["csv"].read_bytes(), files["csv"].name, pdf_path
        )

    def pixels(self) -> tuple[int, int]:
        """Return the PNG's width and height in pixels, from its header (PNG specification, 11.2.1)."""
        if self.png[:8] != PNG_SIGNATURE:
            raise UserError(
                f"report: figure '{self.title}' is not a PNG. Draw the figures again: make report."
            )
        width, height = struct.unpack(">II", self.png[16:24])
        return width, height


@dataclass(frozen=True)
class SuiteInput:
    """One suite's page.

    Attributes:
        metric: what arms are ranked by.
        source: what the suite reproduces, e.g. {paper, code}.
        arms: name -> {label, role}, in the suite's order.
        summary: one row per (suite, arm, method, variant, dataset, fraction, length, metric): n_seeds, mean,
            sd, ci_low, ci_high; shares in [0, 1].
        claims: the judged claims, each with its cells.
        cost: one row per (suite, arm, dataset, fraction, length): seconds, GB, bytes per repetition.
        reproduction: the paper's numbers next to ours, possibly without rows.
        environment: machine and software, nested mappings allowed.
        provenance: one mapping per artefact.
    """

    name: str
    title: str
    question: str
    source: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]]
    summary: pd.DataFrame
    claims: Sequence[Mapping[str, Any]]
    cost: pd.DataFrame
    reproduction: pd.DataFrame
    figures: Sequence[FigureInput]
    environment: Mapping[str, Any] = field(default_factory=dict)
    provenance: Sequence[Mapping[str, Any]] = ()
    metric: str = "test_accuracy"

    def label(self, arm: str) -> str:
        """Return an arm's label; an arm that the suite does not name keeps its name."""
        return str(self.arms.get(arm, {}).get("label", arm))

    def role(self, arm: str) -> str:
        """Return an arm's role: reference, control or method."""
        return str(self.arms.get(arm, {}).get("role", "method"))


@dataclass(frozen=True)
class ReportInput:
    """The whole report: the scale it was run at, the suites in order, and the overview's figures."""

    scale: str
    suites: Sequence[SuiteInput]
    figures: Sequence[FigureInput] = ()
