"""Exponential moving average of a model's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Average:
    """Averages weights and batch norm's running statistics; counters are copied.

    The average of step t keeps min(decay, (1 + t) / (10 + t)) of the one before, so that a short run
    forgets its initial weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.live: dict[str, Tensor] = dict(model.state_dict())
        self.values = {name: value.clone() for name, value in self.live.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        return {f"average.{name}": value for name, value in self.values.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step."""
        keep = min(self.decay, (1 + step) / (10 + step))
        names = [name for name, value in self.live.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.values[n] for n in names], [self.live[n] for n in names], 1 - keep)
        for name in self.live.keys() - names:
            self.values[name].copy_(self.live[name])
