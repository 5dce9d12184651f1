"""What a student minimises, with the derivatives that differentiating its training needs."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Objective = Literal["cross_entropy", "mse"]


def loss(objective: Objective, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean loss of a batch; outputs and targets (b, d), for cross-entropy shares of classes."""
    if objective == "mse":
        return functional.mse_loss(outputs, targets)
    return -(targets * outputs.log_softmax(1)).sum(1).mean()


def gradient(objective: Objective, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the derivative (b, d) of the loss with respect to the outputs."""
    if objective == "mse":
        return 2 / outputs.numel() * (outputs - targets)
    return (outputs.softmax(1) * targets.sum(1, keepdim=True) - targets) / len(outputs)


def along(
    objective: Objective, outputs: Tensor, targets: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return how the loss changes as the outputs move in a direction, and what that change depends on.

    Three derivatives along `direction` (b, d): of the loss (a number), of its gradient with respect to the
    outputs (b, d), and the gradient with respect to the targets (b, d) of the first.
    """
    change = (gradient(objective, outputs, targets) * direction).sum()
    if objective == "mse":
        scale = 2 / outputs.numel()
        return change, scale * direction, -scale * direction
    share = outputs.softmax(1)
    centred = direction - (share * direction).sum(1, keepdim=True)
    total = targets.sum(1, keepdim=True)
    return change, share * centred * total / len(outputs), -centred / len(outputs)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return (n, classes) float32."""
    return functional.one_hot(labels, classes).to(torch.float32)
