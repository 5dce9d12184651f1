"""Random crops and mirror images of uint8 pictures, a whole batch at once by index arithmetic.

Fetching the batch and augmenting it are one gather. kornia does the same in several passes over
floats, and takes two seconds to import.
"""

from __future__ import annotations

import torch
from torch import Tensor


def random_crops(images: Tensor, chosen: Tensor, padding: int, flip: bool) -> Tensor:
    """Return the chosen images, each shifted at random and, with `flip`, mirrored with probability 1/2.

    images: (n, c, h, w), channels last in memory. chosen: (b,) positions. padding: the largest shift in
    pixels, below h and w; what a shift uncovers is filled by reflection. The draws are made on the
    processor: they are the same on every device.
    """
    if not padding and not flip:
        return images[chosen]
    count, (height, width) = len(chosen), images.shape[2:]
    down, right = torch.randint(-padding, padding + 1, (2, count, 1))
    is_mirrored = (torch.rand(count, 1) < 0.5) & flip
    rows = reflected(torch.arange(height) + down, height)
    columns = reflected(torch.arange(width) + right, width)
    columns = torch.where(is_mirrored, columns.flip(1), columns)
    places = torch.cat([rows, columns], 1).to(images.device, non_blocking=True)
    pixels = images.permute(0, 2, 3, 1)
    crops = pixels[chosen[:, None, None], places[:, :height, None], places[:, None, height:]]
    return crops.permute(0, 3, 1, 2)


def reflected(index: Tensor, size: int) -> Tensor:
    """Fold indices from up to size - 1 beyond either end back inside; the border is not repeated."""
    last = size - 1
    return last - (last - index.abs()).abs()
