"""From pixels to what networks see."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from winnow.data.dataset import Dataset


@dataclass(frozen=True)
class Space:
    """Per channel (x - mean) / std or, of pixels in [0, 1], ZCA whitening.

    mean, std: (c,). whitening: (matrix (d, d), mean (d,)) over flattened images (c, h, w), or None.
    """

    mean: Tensor
    std: Tensor
    whitening: tuple[Tensor, Tensor] | None = None

    @classmethod
    def plain(cls, data: Dataset, device: torch.device) -> Space:
        """Return what proxies see of a dataset: its images normalised, whatever `inputs` says."""
        return cls(*statistics(data, device))

    @classmethod
    def of(cls, data: Dataset, device: torch.device) -> Space:
        """Return what experts, students and trained models see: whitened where the data were prepared so."""
        found = data.whitening()
        if found is None:
            return cls.plain(data, device)
        values = torch.tensor(found, dtype=torch.float32, device=device)
        return cls.whitened(values[:-1], values[-1], data.shape[2])

    @classmethod
    def whitened(cls, matrix: Tensor, mean: Tensor, channels: int) -> Space:
        return cls(torch.zeros(channels).to(mean), torch.ones(channels).to(mean), (matrix, mean))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return (n, c, h, w) float32 as networks see it, of uint8 or of pixels in [0, 1]."""
        scaled = pixels.float().div(255) if pixels.dtype == torch.uint8 else pixels.float()
        seen = normalise(scaled, self.mean, self.std)
        if self.whitening is None:
            return seen
        matrix, mean = self.whitening
        return ((seen.flatten(1) - mean) @ matrix).reshape(seen.shape)

    def picture(self, seen: Tensor) -> Tensor:
        """Return (..., c, h, w) pixels in [0, 1], the inverse of what networks see, cut to the range."""
        return self.pixels(seen).clamp(0, 1)

    def pixels(self, seen: Tensor) -> Tensor:
        """Return the inverse of what networks see; values outside [0, 1] stay as they are."""
        if self.whitening is not None:
            matrix, mean = self.whitening
            flat = seen.reshape(-1, len(mean)).to(mean)
            seen = (torch.linalg.solve(matrix, flat, left=False) + mean).reshape(seen.shape)
        mean, std = (values.to(seen)[:, None, None] for values in (self.mean, self.std))
        return seen * std + mean


def statistics(data: Dataset, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the per-channel mean and standard deviation of the training images in [0, 1]."""
    mean = torch.tensor(data.mean, dtype=torch.float32, device=device)
    std = torch.tensor(data.std, dtype=torch.float32, device=device)
    return mean, std


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return (images - mean) / std per channel; images (b, c, h, w), mean and std (c,)."""
    return (images - mean[:, None, None]) / std[:, None, None]
