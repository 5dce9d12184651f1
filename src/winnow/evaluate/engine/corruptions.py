"""Images that are shifted by a known amount: five kinds, five strengths; and images of another size.

Strength 0 changes nothing. The steps follow the idea of ImageNet-C (Hendrycks and Dietterich 2019), scaled to
the image's size where a kind has a length, so that they mean the same for small images.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from winnow.errors import UserError

Corruption = Literal["greyscale", "blur", "noise", "crop", "colour"]
NEEDS_COLOUR = ("greyscale", "colour")


def corrupted(images: np.ndarray, kind: Corruption, strength: int, seed: int = 0) -> np.ndarray:
    """Return uint8 images (n, h, w, c) after one corruption of strength 1 to 5; `seed` draws the noise."""
    if kind in NEEDS_COLOUR and images.shape[3] == 1:
        raise UserError(f"corruption '{kind}' needs colour images; leave it out for this dataset")
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(255)
    changed = _KINDS[kind](pixels, strength / 5, seed).clamp(0, 1).mul(255).round().byte()
    return np.ascontiguousarray(changed.permute(0, 2, 3, 1).numpy())


def _greyscale(pixels: Tensor, strength: float, seed: int) -> Tensor:
    return torch.lerp(pixels, functional.rgb_to_grayscale(pixels, 3), strength)


def _blur(pixels: Tensor, strength: float, seed: int) -> Tensor:
    sigma = strength * pixels.shape[-1] / 16
    radius = min(int(3 * sigma) + 1, pixels.shape[-1] - 1)
    blurred: Tensor = functional.gaussian_blur(pixels, [2 * radius + 1] * 2, [sigma] * 2)
    return blurred


def _noise(pixels: Tensor, strength: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return pixels + 0.4 * strength * torch.randn(pixels.shape, generator=generator)


def _crop(pixels: Tensor, strength: float, seed: int) -> Tensor:
    size = pixels.shape[-1]
    kept = max(1, round(size * (1 - 0.6 * strength)))
    cut = functional.center_crop(pixels, [kept, kept])
    enlarged: Tensor = functional.resize(cut, [size, size], antialias=True)
    return enlarged


def _colour(pixels: Tensor, strength: float, seed: int) -> Tensor:
    turned = functional.adjust_hue(pixels, 0.5 * strength)
    coloured: Tensor = functional.adjust_saturation(turned, 1 + strength)
    return coloured


_KINDS = {"greyscale": _greyscale, "blur": _blur, "noise": _noise, "crop": _crop, "colour": _colour}
