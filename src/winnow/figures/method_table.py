"""The standard table as a picture: arms down, shares kept across, coloured by the gap to a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from winnow.evidence.paired import summary
from winnow.figures import layout
from winnow.figures.gaps import gaps_to
from winnow.figures.style import DIVERGING, styled
from winnow.figures.units import difference_label, display_scale, length_label, measure, percent

TABLE = "values"
TITLE = "Arms by share kept"
CAPTION = (
    "Mean over seeds with half the width of its 95 % interval. The colour is the difference to the baseline "
    "in the same cell, blue above and orange below; bold where the 95 % interval of the paired difference "
    "leaves out zero, without correction for the number of cells. The reference is trained on all examples."
)

MAX_CELLS = 14  # columns side by side
CELL_WIDTH, MIN_WIDTH, ROW_HEIGHT = 0.66, 2.1, 0.2  # inches
GAP, HEAD, FOOT = 0.14, 0.5, 0.55
FONT = 6.4


@styled
def draw(
    table: pd.DataFrame,
    arms: dict[str, dict[str, Any]],
    metric: str = "test_accuracy",
    length: str | None = None,
    baseline: str | None = None,
    only: list[str] | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Draw one block of cells per dataset and training length, at most 14 columns side by side.

    Args:
        table: one row per cell, seed and metric.
        arms: all arms of the suite, name -> {label, role}, in the suite's order.
        metric: which metric to show.
        length: "epochs" or "steps" for one of them alone; None shows both.
        baseline: the arm that colours are differences to; None takes the suite's first control.
        only: the arms to show; None shows all.

    Returns:
        The figure and one row per cell, with difference, low and high (NaN where nothing is compared).
    """
    values = layout.of_metric(table, metric)
    base = layout.baseline_of(values, arms, baseline)
    gaps = gaps_to(values, arms, metric, base)[[*layout.CELL, *layout.GAPS]]
    rows = layout.choose(summary(values), arms, metric, length, only=only)
    rows = rows.merge(gaps, on=layout.CELL, how="left", validate="one_to_one")
    strips = _strips(rows, arms)
    colours = _colours(rows["difference"], metric)
    figure, places = _canvas(strips, arms)
    for strip, axes in zip(strips, places, strict=True):
        for block, axis in zip(strip.blocks, axes, strict=True):
            _draw_block(axis, block, strip.arms, arms, metric, colours)
        axes[0].set_yticks(range(len(strip.arms)), [arms[arm].get("label", arm) for arm in strip.arms])
    _draw_scale(figure, colours, metric, str(arms[base].get("label", base)))
    return figure, rows


@dataclass(frozen=True)
class _Block:
    """The cells of one dataset and training length."""

    title: str
    cells: pd.DataFrame
    fractions: list[float]

    @property
    def width(self) -> float:
        """Return the width in inches: of its cells, or of its title where that is longer."""
        return max(CELL_WIDTH * len(self.fractions), 0.075 * len(self.title), MIN_WIDTH)


@dataclass(frozen=True)
class _Strip:
    """Blocks side by side that share the rows, references first."""

    blocks: list[_Block]
    arms: list[str]

    @property
    def width(self) -> float:
        """Return the width in inches, without the names of the arms."""
        return sum(block.width for block in self.blocks) + GAP * (len(self.blocks) - 1)


def _strips(rows: pd.DataFrame, arms: Mapping[str, Any]) -> list[_Strip]:
    """Set the panels of each length side by side, starting a new strip where one would grow too wide."""
    groups: list[tuple[str, list[_Block]]] = []
    for dataset, length in layout.panel_keys(rows, arms):
        cells = layout.in_panel(rows, arms, dataset, length)
        partial = cells[~cells["arm"].map(lambda arm: layout.is_reference(arms, arm))]
        fractions = sorted((partial if len(partial) else cells)["fraction"].unique())
        block = _Block(f"{dataset}, {length_label(length)}", cells, fractions)
        room = MAX_CELLS - sum(len(b.fractions) for b in groups[-1][1]) if groups else 0
        if groups and groups[-1][0] == length and len(fractions) <= room:
            groups[-1][1].append(block)
        else:
            groups.append((length, [block]))
    return [_Strip(blocks, _in_order(blocks, arms)) for _, blocks in groups]


def _in_order(blocks: Sequence[_Block], arms: Mapping[str, Any]) -> list[str]:
    present = {arm for block in blocks for arm in block.cells["arm"]}
    return sorted((arm for arm in arms if arm in present), key=lambda arm: not layout.is_reference(arms, arm))


def _canvas(strips: Sequence[_Strip], arms: Mapping[str, Any]) -> tuple[Figure, list[list[Axes]]]:
    """Make axes of exactly as many cells as each block has; all lengths in inches."""
    longest = max(len(str(arms[arm].get("label", arm))) for strip in strips for arm in strip.arms)
    left = 0.068 * longest + 0.2
    widest = max(strip.width for strip in strips)
    width = left + max(widest, 3.0) + GAP
    height = FOOT + sum(HEAD + ROW_HEIGHT * len(strip.arms) for strip in strips)
    figure, top, places = Figure(figsize=(width, height)), height, []
    for strip in strips:
        tall = ROW_HEIGHT * len(strip.arms)
        top, x, axes = top - HEAD - tall, left, []
        for block in strip.blocks:
            axis = figure.add_axes((x / width, top / height, block.width / width, tall / height))
            axis.set(xlim=(-0.5, len(block.fractions) - 0.5), ylim=(len(strip.arms) - 0.5, -0.5))
            axis.set_title(block.title, pad=16)
            axis.set_xticks(range(len(block.fractions)), [percent(share) for share in block.fractions])
            axis.tick_params(
                top=True, labeltop=True, bottom=False, labelbottom=False, length=0, labelleft=False
            )
            axis.grid(False)
            axis.spines[:].set_visible(False)
            axes.append(axis)
            x += block.width + GAP
        axes[0].tick_params(labelleft=True)
        places.append(axes)
    return figure, places


def _draw_block(
    axis: Axes,
    block: _Block,
    shown: Sequence[str],
    arms: Mapping[str, Any],
    metric: str,
    colours: ScalarMappable,
) -> None:
    for row, arm in enumerate(shown):
        cells = block.cells[block.cells["arm"] == arm]
        for cell in cells.to_dict("records"):
            if layout.is_reference(arms, arm):
                axis.axhspan(row - 0.5, row + 0.5, color="#F1F1F1", linewidth=0)
                text, middle = f"all examples: {_text(cell, metric)}", (len(block.fractions) - 1) / 2
                axis.text(middle, row, text, ha="center", va="center", fontsize=FONT)
            else:
                _draw_cell(axis, block.fractions.index(cell["fraction"]), row, cell, metric, colours)
        axis.axhline(row + 0.5, color="#E4E4E4", linewidth=0.5)


def _draw_cell(
    axis: Axes, column: int, row: int, cell: Mapping[Any, Any], metric: str, colours: ScalarMappable
) -> None:
    gap = display_scale(metric) * cell["difference"]
    if np.isfinite(gap):
        color = colours.to_rgba(gap)
        axis.fill_between([column - 0.5, column + 0.5], row - 0.5, row + 0.5, color=color, linewidth=0)
    sure = cell["low"] > 0 or cell["high"] < 0
    weight = "bold" if sure else "normal"
    axis.text(column, row, _text(cell, metric), ha="center", va="center", fontsize=FONT, fontweight=weight)


def _text(cell: Mapping[Any, Any], metric: str) -> str:
    half = (cell["ci_high"] - cell["ci_low"]) / 2
    mean = measure(cell["mean"], metric)
    return f"{mean} ± {measure(half, metric)}" if np.isfinite(half) else mean


def _colours(gaps: pd.Series, metric: str) -> ScalarMappable:
    """Return the colours of differences in display units; the outer tenth has the colour of the ends."""
    known = gaps.dropna().abs() * display_scale(metric)
    limit = float(known.quantile(0.9)) if len(known) else 0.0
    norm = Normalize(-(limit or 1.0), limit or 1.0)
    return ScalarMappable(norm, LinearSegmentedColormap.from_list("gap", DIVERGING))


def _draw_scale(figure: Figure, colours: ScalarMappable, metric: str, baseline: str) -> None:
    width, height = figure.get_size_inches()
    axis = figure.add_axes(((width - GAP - 2.4) / width, 0.32 / height, 2.4 / width, 0.1 / height))
    bar = figure.colorbar(colours, cax=axis, orientation="horizontal", extend="both")
    bar.outline.set_visible(False)
    axis.tick_params(length=2, labelsize=FONT)
    title = difference_label(metric, baseline)
    axis.set_title(title, loc="right", fontsize=FONT + 0.6, fontweight="normal", pad=3)
