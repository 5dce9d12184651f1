"""Images recovered from a trained network: its classes, and the statistics that its batch norms keep.

Source: Yin et al. 2023, arXiv 2306.13092 (SRe2L), equations 5 to 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from torchvision.transforms import v2

from winnow.distill.engine.learned import Distilled, LearnedSet, Optimiser, learn
from winnow.distill.engine.view import DistillView
from winnow.distill.sre2l import SRe2LParams
from winnow.errors import UserError


def recover(params: SRe2LParams, view: DistillView) -> Distilled:
    """Return the set after the last iteration; every batch of one image per class moves by itself."""
    if view.real.targets is not None:
        raise UserError(f"{view.label}: recovering images needs labels; remove `targets` from the suite")
    teacher = view.teacher()
    norms = [module for module in teacher.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        raise UserError(
            f"{view.label}: the teacher has no batch norm, whose statistics stand in for the data; give the"
            " arm's `proxy` a model that has, such as cifar_resnet, or convnet with norm: batch"
        )
    learned = LearnedSet.begin(view, "noise")
    batches = one_of_each(learned.members(view.classes))

    def loss_of(step: int) -> Tensor:
        total = torch.zeros((), device=view.device)
        slope = torch.zeros_like(learned.images)
        for rows in batches:
            images = learned.images.detach()[rows].requires_grad_()
            loss = recovery_loss(params, teacher, norms, _moved(images, params), learned.labels[rows])
            (slope[rows],) = torch.autograd.grad(loss, images)
            total += loss.detach()
        found: Tensor = _Known.apply(learned.images, slope, total / len(batches))
        return found

    moved = Optimiser("adam", betas=(0.5, 0.9), schedule="cosine")
    return learn(
        view,
        learned,
        params.iterations,
        loss_of,
        {"images": params.lr_images},
        moved,
        after_step=lambda _: view.clamp(learned.images.data),
    )


def one_of_each(members: Sequence[Tensor]) -> list[Tensor]:
    """Return batches of positions: the first example of each class, the second, ..."""
    most = max(len(own) for own in members)
    return [torch.stack([own[place] for own in members if place < len(own)]) for place in range(most)]


def recovery_loss(
    params: SRe2LParams, teacher: nn.Module, norms: Sequence[nn.BatchNorm2d], images: Tensor, labels: Tensor
) -> Tensor:
    """Return cross-entropy plus, by weight, how far the batch's statistics are from those that are kept."""
    distances: list[Tensor] = []

    def compare(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (x,) = inputs
        assert isinstance(norm.running_mean, Tensor) and isinstance(norm.running_var, Tensor)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        distances.append((mean - norm.running_mean).norm() + (variance - norm.running_var).norm())

    hooks = [norm.register_forward_pre_hook(compare) for norm in norms]
    try:
        loss = functional.cross_entropy(teacher(images), labels)
    finally:
        for hook in hooks:
            hook.remove()
    weighted = (params.first - 1) * distances[0] + torch.stack(distances).sum()
    return loss + params.statistics * weighted


def _moved(images: Tensor, params: SRe2LParams) -> Tensor:
    """Return a batch changed by one random crop and flip, if asked for, and one random roll."""
    if params.crop_min < 1:
        crop = v2.RandomResizedCrop(images.shape[2:], (params.crop_min, 1.0), antialias=True)
        images = v2.RandomHorizontalFlip()(crop(images))
    shifts = torch.randint(params.shift + 1, (2,)).tolist()
    return torch.roll(images, shifts, (2, 3))


class _Known(torch.autograd.Function):
    """A loss whose derivative was computed batch by batch, so that one batch's graph is in memory."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, slope: Tensor, loss: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return loss.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Any:
        (slope,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grads[0] * slope, None, None
