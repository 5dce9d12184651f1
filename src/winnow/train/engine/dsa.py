"""Differentiable augmentation: one random transform for a batch, through which gradients flow to the pixels.

Source: Zhao and Bilen 2021, arXiv 2102.08259 (DSA), with its published strengths. Each batch is changed by
one transform, drawn from those that a strategy names. In distillation real and synthetic images of a class
share its parameters (`shared`); in evaluation each image has its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional

BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
SHIFT, CUT, SCALE, DEGREES = 0.125, 0.5, 1.2, 15.0
Draw = Callable[[], Tensor]


def augment(images: Tensor, strategy: str, random: Generator, shared: bool = False) -> Tensor:
    """Return (n, c, h, w) images after one transform of a strategy such as
    `color_crop_cutout_flip_scale_rotate`.

    random: draws on the processor, so that they are the same on every device. shared: all images get the same
    parameters. An empty strategy changes nothing.
    """
    if not strategy:
        return images
    names = strategy.split("_")
    chosen = names[int(torch.randint(len(names), (1,), generator=random))]
    count = 1 if shared else len(images)

    def draw() -> Tensor:
        """Return (n, 1, 1, 1) numbers from [0, 1)."""
        return torch.rand(count, generator=random).expand(len(images)).to(images)[:, None, None, None]

    for transform in TRANSFORMS[chosen]:
        images = transform(images, draw)
    return images


def _brightness(images: Tensor, draw: Draw) -> Tensor:
    return images + (draw() - 0.5) * BRIGHTNESS


def _saturation(images: Tensor, draw: Draw) -> Tensor:
    grey = images.mean(1, keepdim=True)
    return (images - grey) * (draw() * SATURATION) + grey


def _contrast(images: Tensor, draw: Draw) -> Tensor:
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (draw() + CONTRAST) + mean


def _crop(images: Tensor, draw: Draw) -> Tensor:
    """Shift by up to an eighth of the size; zeros come in."""
    return _gathered(images, *(_shift(draw(), size) for size in images.shape[2:]))


def _shift(drawn: Tensor, size: int) -> Tensor:
    most = int(size * SHIFT + 0.5)
    return (drawn.flatten() * (2 * most + 1)).long().clamp(max=2 * most) - most


def _gathered(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device) + down[:, None]
    columns = torch.arange(width, device=images.device) + right[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    count = torch.arange(len(images), device=images.device)[:, None, None]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    moved = images.permute(0, 2, 3, 1)[count, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2) * inside[:, None]


def _cutout(images: Tensor, draw: Draw) -> Tensor:
    """Black out a square of half the size whose centre is anywhere."""
    inside = [_within(draw(), size) for size in images.shape[2:]]
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    return images * ~hole[:, None]


def _within(drawn: Tensor, size: int) -> Tensor:
    cut = int(size * CUT + 0.5)
    centre = (drawn.flatten() * (size + 1 - cut % 2)).long()
    first = centre - cut // 2
    places = torch.arange(size, device=drawn.device)
    return (places >= first[:, None]) & (places < first[:, None] + cut)


def _flip(images: Tensor, draw: Draw) -> Tensor:
    return torch.where(draw() < 0.5, images.flip(3), images)


def _scale(images: Tensor, draw: Draw) -> Tensor:
    """Shrink or stretch each axis by up to a fifth."""
    across, along = (draw().flatten() * (SCALE - 1 / SCALE) + 1 / SCALE for _ in range(2))
    zero = torch.zeros_like(across)
    return _sampled(images, across, zero, zero, along)


def _rotate(images: Tensor, draw: Draw) -> Tensor:
    angle = (draw().flatten() - 0.5) * 2 * DEGREES * math.pi / 180
    return _sampled(images, angle.cos(), -angle.sin(), angle.sin(), angle.cos())


def _sampled(images: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    zero = torch.zeros_like(a)
    matrices = torch.stack([torch.stack([a, b, zero], 1), torch.stack([c, d, zero], 1)], 1)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


TRANSFORMS: dict[str, tuple[Callable[[Tensor, Draw], Tensor], ...]] = {
    "color": (_brightness, _saturation, _contrast),
    "crop": (_crop,),
    "cutout": (_cutout,),
    "flip": (_flip,),
    "scale": (_scale,),
    "rotate": (_rotate,),
}
