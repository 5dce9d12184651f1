"""The one place for the look of figures, and for writing them so that equal tables give equal bytes."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

# Okabe & Ito's colour-blind safe palette. Black is kept for references; yellow is too pale on white.
METHOD_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
METHOD_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
METHOD_LINES = ("-",)
CONTROL_COLORS = ("#6E6E6E", "#9A9A9A", "#4A4A4A")
CONTROL_MARKERS = ("o", "s", "^", "v")
CONTROL_LINES = ("--", ":", (0, (5, 1, 1, 1)))
REFERENCE_COLORS = ("#000000", "#3D3D3D")
REFERENCE_MARKERS = ("*", "h")
REFERENCE_LINES = ("-.", (0, (1, 1)), (0, (6, 2)))

FRONT_COLOR = "#BFD7C8"
# Worse, equal, better: the palette's vermilion and blue, so light that black text reads on them.
DIVERGING = ("#EE9B62", "#FFFFFF", "#6FB2DD")
PNG_DPI = 200

# Only fonts that matplotlib ships: the same table then gives the same bytes on every machine.
RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.labelcolor": "#222222",
    "axes.edgecolor": "#444444",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "pdf.compression": 6,
    "axes.unicode_minus": True,
    "path.simplify": False,
}

P = ParamSpec("P")
R = TypeVar("R")
LineStyle = str | tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class ArmStyle:
    """How one arm is drawn: colour, marker, line, and whether the marker is filled."""

    label: str
    role: str
    color: str
    marker: str
    line: LineStyle
    filled: bool

    def marker_options(self) -> dict[str, Any]:
        """Return matplotlib's keyword arguments for the arm's marker."""
        face = self.color if self.filled else "white"
        size = 9 if self.marker == "*" else 5
        return {
            "marker": self.marker,
            "color": self.color,
            "markerfacecolor": face,
            "markeredgecolor": self.color,
            "markersize": size,
        }


def arm_styles(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, ArmStyle]:
    """Give every arm of a suite its style, from its role and its place in the suite.

    Args:
        arms: name -> {label, role}. All arms of the suite, drawn or not, so that an arm looks the same in
            every figure. Methods are coloured with filled markers and solid lines, references are black,
            every other role is a control: grey, open markers, broken lines.
    """
    seen: dict[str, int] = {}
    styles: dict[str, ArmStyle] = {}
    for name, arm in arms.items():
        role = str(arm.get("role", "method"))
        kind = role if role in ("method", "reference") else "control"
        place = seen.get(kind, 0)
        seen[kind] = place + 1
        styles[name] = _style(kind, place, str(arm.get("label", name)))
    return styles


def _style(kind: str, place: int, label: str) -> ArmStyle:
    colors, markers, lines = {
        "method": (METHOD_COLORS, METHOD_MARKERS, METHOD_LINES),
        "control": (CONTROL_COLORS, CONTROL_MARKERS, CONTROL_LINES),
        "reference": (REFERENCE_COLORS, REFERENCE_MARKERS, REFERENCE_LINES),
    }[kind]
    line: LineStyle = lines[place % len(lines)]
    return ArmStyle(
        label, kind, colors[place % len(colors)], markers[place % len(markers)], line, kind != "control"
    )


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function with the style of this module, whatever the user's matplotlibrc says."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(RC)
            return function(*args, **kwargs)

    return wrapper


@styled
def save(figure: Figure, table: pd.DataFrame, stem: Path) -> dict[str, Path]:
    """Write a figure as PDF and PNG, and its table as CSV, each under its final name only when whole.

    Args:
        figure: the figure; vector fonts are embedded in the PDF, the PNG has 200 dots per inch.
        table: the rows that the figure shows, in stored units (shares, seconds).
        stem: path without suffix; its folder is created.

    Returns:
        The paths written: {"pdf": ..., "png": ..., "csv": ...}. The same table gives the same bytes.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in ("pdf", "png", "csv")}
    with TemporaryDirectory(dir=stem.parent, prefix=f".{stem.name}-") as folder:
        part = {kind: Path(folder) / path.name for kind, path in paths.items()}
        nameless = {"Creator": None, "Producer": None, "CreationDate": None}
        figure.savefig(part["pdf"], format="pdf", metadata=nameless)
        figure.savefig(part["png"], format="png", dpi=PNG_DPI, metadata={"Software": None})
        table.to_csv(part["csv"], index=False, float_format="%.10g", lineterminator="\n")
        for kind, path in paths.items():
            os.replace(part[kind], path)
    return paths
