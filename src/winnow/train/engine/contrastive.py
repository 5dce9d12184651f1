"""Encoder with projection head, and how it is saved and loaded."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from winnow.models.engine.blocks import feature_width
from winnow.registry import Params, Plugin
from winnow.seeds import derive
from winnow.store import verified, write_atomic
from winnow.train.engine.task import Task


class Contrastive(nn.Module):
    """Encoder, then linear d -> d, batch norm, ReLU, linear d -> p, batch norm without affine."""

    def __init__(self, encoder: nn.Module, width: int, projection: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = nn.Sequential(
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, projection, bias=False),
            nn.BatchNorm1d(projection, affine=False),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.projection(self.encoder(images))  # type: ignore[no-any-return]


def build_contrastive(task: Task, projection: int) -> nn.Module:
    """Return the model with initial weights that depend on (root seed, repetition) alone."""
    torch.manual_seed(derive(task.root_seed, "init", task.seed, *task.context))
    model = _assemble(task.model, task.model_params, task.channels, task.size, projection)
    return model.to(task.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload,no-any-return]


def _assemble(model: Plugin, params: Params, channels: int, size: int, projection: int) -> Contrastive:
    encoder = model.function(params, channels, size)
    return Contrastive(encoder, feature_width(encoder, channels, size), projection)


def save_trained(out: Path, model: nn.Module, history: Tensor) -> None:
    """Write weights and the history of loss and learning rate."""
    weights = {name: value.detach().contiguous().cpu() for name, value in model.state_dict().items()}
    write_atomic(out / "model.safetensors", save(weights))
    table = pd.DataFrame(history.numpy(), columns=["loss", "learning_rate"])
    table.insert(0, "step", range(len(table)))
    table.to_parquet(out / "history.parquet")


def load_contrastive(
    folder: Path, seed: int, model: Plugin, params: Params, channels: int, size: int
) -> Contrastive:
    """Load one repetition's model in evaluation mode; the file is verified first."""
    weights = load_file(verified(folder, f"s{seed}/model.safetensors"))
    head = weights["projection.3.weight"].shape[0]
    network = _assemble(model, params, channels, size, head)
    network.load_state_dict(weights)
    return network.eval()
