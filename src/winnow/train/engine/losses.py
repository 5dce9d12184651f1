"""Losses of self-supervised and supervised training."""

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


def barlow_twins(first: Tensor, second: Tensor, redundancy: float) -> Tensor:
    """Return the loss of Barlow Twins (Zbontar et al. 2021, equations 1 and 2).

    first, second: (b, d) projections of two views, in the same order. Each feature has mean 0 and variance 1
    over the batch, up to the 1e-5 that batch norm adds to variances. redundancy: weight of the products of
    unlike features. Computed in float32 whatever the inputs' type.
    """
    one, two = (functional.batch_norm(view.float(), None, None, training=True) for view in (first, second))
    off = (one.T @ two / len(one) - torch.eye(one.shape[1], device=one.device)).square()
    same = off.diagonal().sum()
    return same + redundancy * (off.sum() - same)


def cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Return the weighted mean loss of a batch, sum w l / sum w; weights None means all equal.

    logits: (b, classes). labels, weights: (b,). smoothing: share of the target that goes to all classes
    alike (Szegedy et al. 2016).
    """
    if weights is None:
        return functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    losses = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    return (weights * losses).sum() / weights.sum().clamp_min(torch.finfo(losses.dtype).tiny)


def mixup(images: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Mix each image with another of the batch (Zhang et al. 2018), one share for the batch.

    Returns share * images + (1 - share) * images[partner], partner (b,) and share ~ Beta(alpha, alpha).
    The draws are made on the processor: they are the same on every device.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partner = torch.randperm(len(images)).to(images.device, non_blocking=True)
    return images.lerp(images[partner], 1 - share), partner, share
