"""A network's weights before training and after every epoch, as one matrix."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from winnow.errors import UserError
from winnow.store import write_atomic


class Trajectory:
    """weights: (epochs + 1, p) float32; row e is what the network was after e epochs, a copy."""

    def __init__(self, model: nn.Module, steps: int, steps_per_epoch: int) -> None:
        self.model, self.each = model, steps_per_epoch
        self.weights = torch.zeros(steps // steps_per_epoch + 1, sum(p.numel() for p in model.parameters()))
        self.weights[0] = flat(model)

    def after_step(self, step: int) -> None:
        """Keep the weights where an epoch has ended."""
        if (step + 1) % self.each == 0:
            self.weights[(step + 1) // self.each] = flat(self.model)

    def save(self, path: Path) -> None:
        write_atomic(path, save({"weights": self.weights}))


def flat(model: nn.Module) -> Tensor:
    """Return the parameters as one vector (p,) on the processor, a copy."""
    return torch.cat([parameter.detach().cpu().reshape(-1) for parameter in model.parameters()])


def read_last(path: Path) -> Tensor:
    """Return the weights (p,) that the expert ended with."""
    with safe_open(path, framework="pt") as file:
        rows = file.get_slice("weights")
        return rows[rows.get_shape()[0] - 1]  # type: ignore[no-any-return]


def read_epochs(path: Path, epochs: tuple[int, ...]) -> list[Tensor]:
    """Return the weights (p,) after some epochs, each read alone from the file."""
    with safe_open(path, framework="pt") as file:
        rows = file.get_slice("weights")
        last = rows.get_shape()[0] - 1
        if max(epochs) > last:
            raise UserError(
                f"{path}: the expert was trained for {last} epochs, but epoch {max(epochs)} is asked for. "
                "Raise `experts.epochs` in the suite, or lower the method's `max_start` or `expert_epochs`."
            )
        return [rows[epoch] for epoch in epochs]
