"""What a trainer is given: data on the device, the rows to train on, seeds and places."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from winnow.data.dataset import Dataset
from winnow.registry import Params, Plugin
from winnow.store import Cost


@dataclass(frozen=True)
class Task:
    """One repetition of a training job.

    images: (n, c, h, w) uint8, the whole pool. labels: (n,) int64, -1 where there is none.
    rows: (m,) int64 positions of the subset in the pool, repeated where an example counts twice.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    mean: Tensor
    std: Tensor
    classes: int
    model: Plugin
    model_params: Params
    steps: int
    batch_size: int
    root_seed: int
    seed: int
    device: torch.device
    checkpoint: Path
    out: Path
    label: str
    cost: Cost

    @property
    def channels(self) -> int:
        return int(self.images.shape[1])

    @property
    def size(self) -> int:
        return int(self.images.shape[2])


def to_tensor(images: np.ndarray, device: torch.device) -> Tensor:
    """Return (n, h, w, c) uint8 images as an (n, c, h, w) tensor on the device, channels last in memory."""
    return torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2)


def statistics(data: Dataset, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the per-channel mean and standard deviation of the training images in [0, 1]."""
    mean = torch.tensor(data.mean, dtype=torch.float32, device=device)
    std = torch.tensor(data.std, dtype=torch.float32, device=device)
    return mean, std


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return (images - mean) / std per channel; images (b, c, h, w), mean and std (c,)."""
    return (images - mean[:, None, None]) / std[:, None, None]
