"""Students: networks as functions of a flat vector of weights, whose training can be differentiated.

A student trained on images by gradient descent is a function of these images. Its derivative needs, for a
direction v in the space of weights, how v . (gradient of the loss) depends on weights, images and targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from winnow.distill.engine import objective
from winnow.distill.engine.objective import Objective


@dataclass(frozen=True)
class Mixed:
    """The derivatives of s = direction . (gradient of the loss by the weights).

    along: s itself. weights: (p,), the Hessian times the direction. images, targets: as the batch's.
    """

    along: Tensor
    weights: Tensor
    images: Tensor
    targets: Tensor


class Student(Protocol):
    """images: (b, c, h, w). targets: (b, d) float, for cross-entropy shares of classes. weights: (p,)."""

    def gradient(self, weights: Tensor, images: Tensor, targets: Tensor) -> Tensor:
        """Return the gradient (p,) of the mean loss of a batch."""

    def mixed(self, weights: Tensor, images: Tensor, targets: Tensor, direction: Tensor) -> Mixed:
        """Return the derivatives of the gradient along a direction (p,)."""


class AutogradStudent:
    """Any network; its second derivatives are automatic. Buffers such as running means are not carried on,
    but where they are handed over.
    """

    def __init__(self, network: nn.Module, kind: Objective) -> None:
        self.network, self.kind = network, kind
        self.shapes = {name: value.shape for name, value in network.named_parameters()}
        self.buffers = dict(network.named_buffers())

    def gradient(
        self, weights: Tensor, images: Tensor, targets: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """As stated; buffers: by name, which the forward pass carries on in place."""
        weights = weights.detach().requires_grad_()
        loss = self.loss(weights, images.detach(), targets.detach(), buffers)
        (found,) = torch.autograd.grad(loss, weights)
        return found

    def mixed(self, weights: Tensor, images: Tensor, targets: Tensor, direction: Tensor) -> Mixed:
        leaves = [part.detach().requires_grad_() for part in (weights, images, targets)]
        with torch.enable_grad():
            loss = self.loss(leaves[0], leaves[1], leaves[2])
            (gradient,) = torch.autograd.grad(loss, leaves[0], create_graph=True)
            along = gradient @ direction.detach()
        found = torch.autograd.grad(along, leaves, allow_unused=True)
        parts = [
            torch.zeros_like(leaf) if part is None else part for part, leaf in zip(found, leaves, strict=True)
        ]
        return Mixed(along.detach(), *parts)

    def loss(
        self, weights: Tensor, images: Tensor, targets: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return the mean loss of a batch, differentiable in all three. buffers: as of `gradient`."""
        own = {name: value.clone() for name, value in self.buffers.items()} | dict(buffers or {})
        with torch.enable_grad():
            outputs = functional_call(self.network, (self.named(weights), own), (images,))
            return objective.loss(self.kind, outputs, targets)

    def named(self, weights: Tensor) -> dict[str, Tensor]:
        """Return the weights by name, in their shapes."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        parts = zip(self.shapes.items(), torch.split(weights, sizes), strict=True)
        return {name: part.reshape(shape) for (name, shape), part in parts}


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """Return tensors as one vector, a copy."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
