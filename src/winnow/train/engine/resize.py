"""Images of one size as those of another: for models that know one size alone."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.transforms.v2 import functional


def resized(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return uint8 images (n, h, w, c) in another shape (h, w, c): bicubic; grey and colour are converted."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    if pixels.shape[1] != shape[2]:
        pixels = pixels.expand(-1, 3, -1, -1) if shape[2] == 3 else functional.rgb_to_grayscale(pixels)
    if tuple(pixels.shape[2:]) != tuple(shape[:2]):
        mode = functional.InterpolationMode.BICUBIC
        pixels = functional.resize(pixels, list(shape[:2]), mode, antialias=True)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())
