"""Pictures of a synthetic set on its way: a row per class, a block per iteration."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

ACROSS, BLOCKS, TITLE, GAP, LEAST = 10, 3, 14, 8, 24
"""Pictures of a class side by side, blocks side by side, pixels of a title and between blocks, and of the
smallest picture.
"""


def draw_gallery(pictures: Tensor, labels: Tensor, iterations: list[int], path: Path) -> None:
    """Write one image. pictures: (k, n, c, h, w) in [0, 1], after each of k iterations. labels: (n,).

    With one picture per class the classes stand side by side.
    """
    rows = [(labels == label).nonzero().flatten()[:ACROSS] for label in sorted(set(labels.tolist()))]
    if all(len(row) == 1 for row in rows):
        rows = list(torch.split(torch.cat(rows), ACROSS))
    blocks = [_block(shown, rows) for shown in pictures]
    width, height = blocks[0].size
    down = -(-len(blocks) // BLOCKS)
    across = min(BLOCKS, len(blocks))
    size = (across * width + GAP * (across - 1), down * (height + TITLE) + GAP * (down - 1))
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for place, (block, iteration) in enumerate(zip(blocks, iterations, strict=True)):
        left, top = place % BLOCKS * (width + GAP), place // BLOCKS * (height + TITLE + GAP)
        draw.text((left, top), f"{iteration}", fill="black")
        canvas.paste(block, (left, top + TITLE))
    canvas.save(path)


def _block(shown: Tensor, rows: list[Tensor]) -> Image.Image:
    """Return the pictures (n, c, h, w) in rows, small ones enlarged."""
    columns = max(len(row) for row in rows)
    _, channels, height, width = shown.shape
    sheet = torch.ones(len(rows), columns, channels, height + 1, width + 1)
    for line, row in enumerate(rows):
        sheet[line, : len(row), :, :height, :width] = shown[row]
    grid = sheet.permute(0, 3, 1, 4, 2).reshape(len(rows) * (height + 1), columns * (width + 1), channels)
    pixels = (grid * 255).round().byte().numpy()
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).convert("RGB")
    zoom = max(1, round(LEAST / height))
    return image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)
