"""Contact sheets: the first pairs kept, those on either side of the border, and the last ones dropped."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLUMNS = 10
TILE, TEXT_LINES, MARGIN, HEADING = 96, 4, 8, 22
LINE = 11
INK, FAINT, PAPER = (34, 34, 34), (110, 110, 110), (255, 255, 255)


@dataclass(frozen=True)
class Row:
    """A line of a sheet: a heading, positions in the pool, and a note under each picture."""

    heading: str
    index: np.ndarray
    notes: Sequence[str]


def rows_of(order: np.ndarray, kept: int, score: np.ndarray | None) -> list[Row]:
    """Return the lines of a selection's sheet.

    order: positions of the pool, best first; the first `kept` of them are the subset, the rest follow only
    where the method orders everything. score: (n,) values to print, or None.
    """
    groups = [("kept first", order[:kept][:COLUMNS]), ("kept last", order[max(kept - COLUMNS, 0) : kept])]
    dropped = order[kept:]
    if len(dropped):
        groups += [("dropped first", dropped[:COLUMNS]), ("dropped last", dropped[-COLUMNS:])]
    rank = np.empty(order.max(initial=-1) + 1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    return [
        Row(heading, index, [note(int(rank[i]), None if score is None else float(score[i])) for i in index])
        for heading, index in groups
    ]


def note(rank: int, score: float | None) -> str:
    return f"#{rank + 1}" if score is None else f"#{rank + 1}  {score:.3f}"


def contact_sheet(
    rows: Sequence[Row], images: dict[int, np.ndarray], captions: dict[int, str]
) -> Image.Image:
    """Return a picture with a line of tiles per row; images are uint8 (h, w, c) by position in the pool."""
    width = MARGIN + COLUMNS * (TILE + MARGIN)
    height_of_row = HEADING + TILE + (TEXT_LINES + 1) * LINE + MARGIN
    sheet = Image.new("RGB", (width, MARGIN + height_of_row * len(rows)), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=10)
    for line, row in enumerate(rows):
        top = MARGIN + line * height_of_row
        draw.text((MARGIN, top), row.heading, INK, ImageFont.load_default(size=13))
        for column, (position, text) in enumerate(zip(row.index, row.notes, strict=True)):
            left = MARGIN + column * (TILE + MARGIN)
            sheet.paste(_tile(images[int(position)]), (left, top + HEADING))
            below = top + HEADING + TILE + 2
            draw.text((left, below), text, FAINT, font)
            for i, part in enumerate(_wrapped(captions.get(int(position), ""))):
                draw.text((left, below + (i + 1) * LINE), part, INK, font)
    return sheet


def _tile(image: np.ndarray) -> Image.Image:
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("RGB")
    small = max(picture.size) < TILE
    return picture.resize((TILE, TILE), Image.Resampling.NEAREST if small else Image.Resampling.BICUBIC)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 18, max_lines=TEXT_LINES, placeholder=" ...")
