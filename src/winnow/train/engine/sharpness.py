"""Sharpness-aware minimisation: the update uses the gradient at the worst point nearby.

Sources: SAM, Foret et al. 2021 (arXiv 2010.01412), algorithm 1 with p = 2; ASAM, Kwon et al. 2021
(arXiv 2102.11600), which measures the neighbourhood relative to the size of each weight; GSAM, Zhuang et
al. 2022 (arXiv 2203.08065), algorithm 1 at a constant radius.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

ETA = 0.01
"""ASAM's addition to each weight's size (Kwon et al. 2021, section 4)."""


class SAM(torch.optim.Optimizer):
    """Wraps an optimiser: each step climbs to distance rho along the gradient and descends from there.

    rho: radius of the neighbourhood; 0 gives the wrapped optimiser's steps exactly. adaptive: ASAM. alpha: of
    GSAM, which also ascends by the part of the first gradient that is orthogonal to the second.
    Weight decay is the wrapped optimiser's and takes no part in the climb. Batch norm's running
    statistics follow the first pass alone.
    """

    def __init__(
        self,
        base: torch.optim.Optimizer,
        model: nn.Module,
        rho: float,
        adaptive: bool = False,
        alpha: float = 0.0,
    ) -> None:
        super().__init__(base.param_groups, {})
        self.base, self.model, self.rho, self.adaptive = base, model, rho, adaptive
        self.alpha = alpha
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Do one update; closure() clears the gradients, computes them anew and returns the loss."""
        with torch.enable_grad():
            loss = closure()
        weights = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        before = [weight.clone() for weight in weights]
        first = [_gradient(weight).clone() for weight in weights] if self.alpha else []
        torch._foreach_add_(weights, self._climb(weights))
        with torch.enable_grad(), frozen_statistics(self.model):
            closure()
        torch._foreach_copy_(weights, before)
        if self.alpha:
            self._ascend(weights, first)
        self.base.step()
        return loss

    def _ascend(self, weights: list[Tensor], first: list[Tensor]) -> None:
        """Take alpha times the orthogonal part of the first gradients off the second ones, in place."""
        second = [_gradient(weight) for weight in weights]
        inner = torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()
        norm = torch.stack([part.square().sum() for part in second]).sum()
        along = inner / (norm + 1e-12)
        for one, other in zip(first, second, strict=True):
            other.sub_(self.alpha * (one - along * other))

    def _climb(self, weights: list[Tensor]) -> list[Tensor]:
        """Return rho T^2 g / |T g|; T is the identity or, in ASAM, the diagonal of |w| + eta."""
        gradients: list[Tensor] = [weight.grad for weight in weights]  # type: ignore[misc]
        sizes = torch._foreach_add(torch._foreach_abs(weights), ETA) if self.adaptive else None
        scaled = gradients if sizes is None else torch._foreach_mul(gradients, sizes)
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(scaled)))
        direction = scaled if sizes is None else torch._foreach_mul(scaled, sizes)
        return torch._foreach_mul(direction, self.rho / (norm + 1e-12))  # type: ignore[return-value]

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.base.load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state = self.base.param_groups, self.base.state


def _gradient(weight: Tensor) -> Tensor:
    if weight.grad is None:
        raise ValueError("a weight has no gradient")
    return weight.grad


@contextlib.contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Let batch norm use the batch's statistics without updating its running ones."""
    norms = [
        module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
