"""Pictures of a synthetic set on its way: a row per class, a block per iteration."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

ACROSS, MARGIN, LEAST = 10, 14, 32
"""Pictures of a class side by side, pixels above a block for its title, and of the smallest picture."""


def draw_gallery(pictures: Tensor, labels: Tensor, iterations: list[int], path: Path) -> None:
    """Write one image. pictures: (k, n, c, h, w) in [0, 1], after each of k iterations. labels: (n,)."""
    rows = [(labels == label).nonzero().flatten()[:ACROSS] for label in sorted(set(labels.tolist()))]
    columns = max(len(row) for row in rows)
    _, _, channels, height, width = pictures.shape
    zoom = max(1, -(-LEAST // height)) if len(rows) * columns <= 4 * ACROSS else 1
    blocks = []
    for shown in pictures:
        sheet = torch.ones(len(rows), columns, channels, height, width)
        for line, row in enumerate(rows):
            sheet[line, : len(row)] = shown[row]
        grid = sheet.permute(0, 3, 1, 4, 2).reshape(len(rows) * height, columns * width, channels)
        pixels = (grid * 255).round().byte().numpy()
        image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).convert("RGB")
        size = (image.width * zoom, image.height * zoom)
        blocks.append(image.resize(size, Image.Resampling.NEAREST))
    gap = MARGIN // 2
    whole = (sum(block.width for block in blocks) + gap * (len(blocks) - 1), blocks[0].height + MARGIN)
    canvas = Image.new("RGB", whole, "white")
    draw, left = ImageDraw.Draw(canvas), 0
    for block, iteration in zip(blocks, iterations, strict=True):
        draw.text((left, 1), f"{iteration}", fill="black")
        canvas.paste(block, (left, MARGIN))
        left += block.width + gap
    canvas.save(path)
