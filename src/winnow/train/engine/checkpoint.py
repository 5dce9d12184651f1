"""Checkpoints: one safetensors file with weights, optimiser state, history and progress; no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from winnow.store import write_atomic


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    history: Tensor,
    progress: dict[str, Any],
    extras: Mapping[str, Tensor],
) -> None:
    """Write a checkpoint under its final name in one rename."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    tensors |= {f"extra.{name}": value for name, value in extras.items()}
    tensors["history"] = history
    contiguous = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    write_atomic(path, save(contiguous, {"progress": json.dumps(progress)}))


def load_checkpoint(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, extras: Mapping[str, Tensor]
) -> tuple[Tensor, dict[str, Any]] | None:
    """Restore model, optimiser and extras in place; None when there is no whole checkpoint.

    Returns the history (steps, 2) of loss and learning rate, and the saved progress.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            progress = json.loads(file.metadata()["progress"])
    except (FileNotFoundError, SafetensorError):
        return None
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
    for name, value in extras.items():
        value.copy_(tensors[f"extra.{name}"])
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, index, slot = name.split(".", 2)
            state.setdefault(int(index), {})[slot] = _laid_out_like(parameters[int(index)], value)
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    return tensors["history"], progress


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """Return the values with the parameter's memory format: updates of mixed formats are slow."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device="cpu").copy_(value).detach()
