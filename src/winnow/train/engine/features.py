"""Forward passes over many images in evaluation mode."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from winnow.data.lazy import ImageSource
from winnow.train.engine.space import Space
from winnow.train.engine.task import to_tensor

BATCH = 512


@torch.no_grad()
def features(model: nn.Module, images: ImageSource, space: Space, augment: nn.Module | None = None) -> Tensor:
    """Return the model's outputs for (n, h, w, c) uint8 images as (n, d) float32 on the processor."""
    device, outputs = space.mean.device, []
    model = model.eval().to(memory_format=torch.channels_last)
    for start in range(0, len(images), BATCH):
        batch = to_tensor(images[start : start + BATCH], device).float().div_(255)
        batch = space(augment(batch) if augment else batch)
        outputs.append(model(batch.contiguous(memory_format=torch.channels_last)).float().cpu())
    return torch.cat(outputs)
