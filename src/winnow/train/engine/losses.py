"""Losses of self-supervised training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return SimCLR's loss (Chen et al. 2020, equation 1), the mean over both views of a batch.

    first, second: (b, d) projections of two views, in the same order. Every other view of the batch
    is a negative; similarities are cosines. Computed in float32 whatever the inputs' type.
    """
    views = functional.normalize(torch.cat([first, second]).float(), dim=1)
    logits = views @ views.T / temperature
    logits.fill_diagonal_(float("-inf"))
    half = len(first)
    target = torch.arange(2 * half, device=logits.device).roll(half)
    return functional.cross_entropy(logits, target)
