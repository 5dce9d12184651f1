"""Encoder with a linear classifier, and how it is built, loaded and asked."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from winnow.models.engine.blocks import feature_width
from winnow.registry import Params, Plugin
from winnow.seeds import derive
from winnow.store import verified
from winnow.train.engine.space import Space
from winnow.train.engine.task import Task

BATCH = 512


class Classifier(nn.Module):
    """Encoder, then one linear layer in float32: logits in bfloat16 would tie one time in a hundred."""

    def __init__(self, encoder: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.encoder(images)
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features.to(self.head.weight.dtype))  # type: ignore[no-any-return]


def build_classifier(task: Task, outputs: int | None = None, number: int | None = None) -> Classifier:
    """Return the model with initial weights that depend on (root seed, repetition, context, number) alone.

    outputs: how many; None for one per class. number: of several models of one task.
    """
    context = task.context if number is None else (*task.context, number)
    torch.manual_seed(derive(task.root_seed, "init", task.seed, *context))
    outputs = task.classes if outputs is None else outputs
    model = assemble(task.model, task.model_params, task.channels, task.size, outputs)
    return model.to(task.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload,no-any-return]


def assemble(model: Plugin, params: Params, channels: int, size: int, classes: int) -> Classifier:
    encoder = model.function(params, channels, size)
    return Classifier(encoder, feature_width(encoder, channels, size), classes)


def load_classifier(
    folder: Path, seed: int, model: Plugin, params: Params, channels: int, size: int
) -> Classifier:
    """Load one repetition's model in evaluation mode; the file is verified first."""
    weights = load_file(verified(folder, f"s{seed}/model.safetensors"))
    network = assemble(model, params, channels, size, len(weights["head.bias"]))
    network.load_state_dict(weights)
    return network.eval()


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, space: Space, dtype: torch.dtype | None) -> Tensor:
    """Return the logits (n, classes) float32, on the processor, of uint8 images (n, c, h, w).

    dtype: the training's autocast type, or None.
    """
    model.eval()
    device, outputs = space.mean.device, []
    for batch in torch.split(images, BATCH):
        pixels = space(batch.to(device))
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            outputs.append(model(pixels.contiguous(memory_format=torch.channels_last)).float().cpu())
    return torch.cat(outputs)
