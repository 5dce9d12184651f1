"""LARS: SGD with momentum whose rate follows, layer by layer, how large weights are beside their gradient.

Source: You, Gitman and Ginsburg 2017 (arXiv 1708.03888), algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    """v <- m v + q (g + decay w), w <- w - lr v, with q = trust |w| / (|g| + decay |w|) for each tensor.

    Biases and the scales of norms (tensors of one dimension) have neither q nor decay. clip: q lr is at most
    lr, so that no layer goes faster than SGD (LARC). Where weights or gradient are zero q is 1.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        clip: bool = False,
    ) -> None:
        settings = {"momentum": momentum, "weight_decay": weight_decay, "trust": trust, "clip": clip}
        super().__init__(params, {"lr": lr, **settings})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Do one update; closure() computes the gradients and returns the loss."""
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)
        return loss

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if weight.ndim > 1:
            rate = _rate(weight, gradient, group)
            gradient = rate * gradient.add(weight, alpha=group["weight_decay"])
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].mul_(group["momentum"]).add_(gradient)
        weight.sub_(state["momentum"], alpha=group["lr"])


def _rate(weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
    size, slope = weight.norm(), gradient.norm()
    rate = group["trust"] * size / (slope + group["weight_decay"] * size)
    if group["clip"] and group["lr"]:
        rate = (rate / group["lr"]).clamp_max(1)
    return torch.where((size > 0) & (slope > 0), rate, torch.ones_like(rate))
