"""Small drawings inside table cells, as inline SVG coloured by the page's style sheet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from winnow.figures.units import is_missing

WIDTH = 144
HEIGHT = 14
INSET = 4


@dataclass(frozen=True)
class Span:
    """The range of values that a column of marks shows, and the level of the reference within it."""

    low: float
    high: float
    level: float | None

    @classmethod
    def of(cls, rows: pd.DataFrame, level: float | None) -> Span:
        """Return the range of the rows' intervals (of their means where there is no interval)."""
        low = rows["ci_low"].astype(float).fillna(rows["mean"]).min()
        high = rows["ci_high"].astype(float).fillna(rows["mean"]).max()
        return cls(float(low), float(high), level)

    def place(self, value: float) -> float:
        """Return the horizontal position of a value in the drawing's units."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return INSET + share * (WIDTH - 2 * INSET)


def whisker(mean: Any, low: Any, high: Any, span: Span) -> Markup:
    """Draw a mean as a dot, its interval as a line and the reference level as a tick."""
    middle = HEIGHT / 2
    parts = [f'<svg class="mark whisker" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">']
    if span.level is not None:
        x = span.place(span.level)
        parts.append(f'<line class="level" x1="{x:.1f}" x2="{x:.1f}" y1="1" y2="{HEIGHT - 1}"/>')
    if not is_missing(low) and not is_missing(high):
        a, b = span.place(low), span.place(high)
        parts.append(f'<line class="bar" x1="{a:.1f}" x2="{b:.1f}" y1="{middle:g}" y2="{middle:g}"/>')
    parts.append(f'<circle class="dot" cx="{span.place(mean):.1f}" cy="{middle:g}" r="3"/></svg>')
    return Markup("".join(parts))  # built from numbers alone


def cost_bar(row: Mapping[Any, Any], top: float) -> Markup:
    """Draw selection, training and evaluation as one bar on the scale 0 .. `top` seconds."""
    parts = [f'<svg class="mark cost-bar" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">']
    x = 0.0
    for stage in ("selection", "training", "evaluation"):
        seconds = row[f"{stage}_wall_s"]
        if not is_missing(seconds) and top > 0:
            width = WIDTH * float(seconds) / top
            parts.append(
                f'<rect class="{stage}" x="{x:.1f}" y="3" width="{width:.1f}" height="{HEIGHT - 6}"/>'
            )
            x += width
    return Markup("".join([*parts, "</svg>"]))  # built from numbers alone
