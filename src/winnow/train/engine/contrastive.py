"""Encoder with projection head, and how it is saved and loaded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
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
    """Encoder, then a projector: linear layers without bias, batch norm and ReLU between them.

    widths: of each layer. ends_normalised: batch norm without affine after the last layer.
    """

    def __init__(
        self, encoder: nn.Module, width: int, widths: Sequence[int], ends_normalised: bool = True
    ) -> None:
        super().__init__()
        self.encoder = encoder
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((width, *widths)):
            layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
        end = [nn.BatchNorm1d(widths[-1], affine=False)] if ends_normalised else []
        self.projection = nn.Sequential(*layers[:-2], *end)

    def forward(self, images: Tensor) -> Tensor:
        return self.projection(self.encoder(images))  # type: ignore[no-any-return]


def build_contrastive(task: Task, widths: Sequence[int | None], ends_normalised: bool = True) -> Contrastive:
    """Return the model with initial weights that depend on (root seed, repetition) alone.

    widths: of the projector's layers, None for that of the features.
    """
    torch.manual_seed(derive(task.root_seed, "init", task.seed, *task.context))
    encoder = task.model.function(task.model_params, task.channels, task.size)
    features = feature_width(encoder, task.channels, task.size)
    model = Contrastive(encoder, features, [each or features for each in widths], ends_normalised)
    return model.to(task.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload,no-any-return]


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
    head = {name: value for name, value in weights.items() if name.startswith("projection.")}
    linear = [name for name in sorted(head, key=_place) if head[name].ndim == 2]
    ends_normalised = any(_place(name) > _place(linear[-1]) for name in head)
    encoder = model.function(params, channels, size)
    features = feature_width(encoder, channels, size)
    network = Contrastive(encoder, features, [head[name].shape[0] for name in linear], ends_normalised)
    network.load_state_dict(weights)
    return network.eval()


def _place(name: str) -> int:
    """Return the position of the layer in `projection.<position>.<tensor>`."""
    return int(name.split(".")[1])
