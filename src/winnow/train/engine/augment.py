"""Augmentation of whole batches on the training device, each image with its own draw (kornia)."""

from __future__ import annotations

import kornia.augmentation as kornia
from torch import nn

from winnow.train.engine.options import AugmentParams


def build_augmentation(params: AugmentParams, channels: int, size: int) -> nn.Module:
    """Return a module that maps float images (b, channels, size, size) in [0, 1] to one view each."""
    s = params.colour
    parts: list[nn.Module] = []
    if params.rotation:
        parts.append(kornia.RandomAffine(params.rotation, translate=(0.1, 0.1), p=1.0))
    if params.crop_min < 1:
        parts.append(
            kornia.RandomResizedCrop((size, size), scale=(params.crop_min, 1.0), cropping_mode="resample")
        )
    if params.flip:
        parts.append(kornia.RandomHorizontalFlip())
    if s and channels == 3:
        parts.append(kornia.ColorJitter(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s, p=0.8))
    elif s:
        low, high = 1 - 0.8 * s, 1 + 0.8 * s
        parts += [kornia.RandomBrightness((low, high), p=0.8), kornia.RandomContrast((low, high), p=0.8)]
    if params.greyscale and channels == 3:
        parts.append(kornia.RandomGrayscale(p=params.greyscale))
    return nn.Sequential(*parts)


def solarisation(share: float) -> nn.Module:
    """Return a module that inverts the pixels from 0.5 on, in this share of the images."""
    inverts: nn.Module = kornia.RandomSolarize(thresholds=(0.5, 0.5), additions=(0.0, 0.0), p=share)
    return inverts
