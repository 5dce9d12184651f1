"""Crops of real images that a teacher classifies with the least loss.

Source: Sun et al. 2024, arXiv 2312.03526 (RDED), algorithm 1.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2

from winnow.distill.engine.learned import Distilled, LearnedSet, finished, pictured
from winnow.distill.engine.view import DistillView
from winnow.distill.rded import RDEDParams
from winnow.errors import UserError
from winnow.train.engine.synthetic import packed

BATCH = 512


@torch.no_grad()
def surest_crops(params: RDEDParams, view: DistillView) -> Distilled:
    """Return a set of as many images of each class as the given start has."""
    if view.real.targets is not None:
        raise UserError(f"{view.label}: the surest crops are of classes; remove `targets` from the suite")
    view.check_factor(params.factor)
    learned, teacher = LearnedSet.begin(view, "real"), view.teacher()
    begun, losses, pool = learned.images.detach().clone(), [], view.members()
    for label, own in enumerate(learned.members(view.classes)):
        if len(own):
            crops, loss = _of_class(params, view, teacher, pool[label], label, len(own))
            learned.images.data[own] = packed(crops, params.factor, begun.shape[2])
            losses.append(loss)
    shown = pictured(learned, view.classes)
    return Distilled(
        finished(view, learned, soft=False),
        pd.DataFrame({"iteration": [1], "loss": [float(torch.cat(losses).mean())]}),
        torch.stack([begun[shown], learned.images.detach()[shown]]).cpu(),
        [0, 1],
        learned.labels[shown].cpu(),
    )


def _of_class(
    params: RDEDParams, view: DistillView, teacher: nn.Module, members: Tensor, label: int, count: int
) -> tuple[Tensor, Tensor]:
    """Return count x factor^2 crops, the surest first, and their losses."""
    wanted = count * params.factor**2
    if len(members) < wanted:
        raise UserError(
            f"{view.label}: class {label} has {len(members)} real images, {wanted} are needed; lower `factor`"
            " or the fraction in the suite"
        )
    random = Generator().manual_seed(view.derive("selection", "crops", label))
    order = torch.randperm(len(members), generator=random)[: max(params.candidates, wanted)]
    seed = view.derive("augmentation", "crops", label)
    crops = random_crops(view.real.images[members[order.to(members.device)]], params, seed)
    losses = teacher_losses(teacher, crops.flatten(0, 1), label, view.real.images.shape[2])
    losses, best = losses.view(len(crops), params.crops).min(1)
    surest = losses.argsort(stable=True)[:wanted]
    return crops[surest, best[surest]], losses[surest]


def random_crops(images: Tensor, params: RDEDParams, seed: int) -> Tensor:
    """Return (n, crops, c, s, s) square crops of images (n, c, h, w), resized to s = h / factor."""
    side = images.shape[2] // params.factor
    crop = v2.RandomResizedCrop(side, (params.crop_min, 1.0), (1.0, 1.0), antialias=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = [torch.stack([crop(image) for _ in range(params.crops)]) for image in images]
    return torch.stack(found)


@torch.no_grad()
def teacher_losses(teacher: nn.Module, crops: Tensor, label: int, size: int) -> Tensor:
    """Return the cross-entropy (n,) of each crop, amid zeros where it is smaller than `size`."""
    before, after = (size - crops.shape[2]) // 2, (size - crops.shape[2] + 1) // 2
    found = []
    for part in torch.split(functional.pad(crops, (before, after, before, after)), BATCH):
        logits = teacher(part.contiguous(memory_format=torch.channels_last))
        labels = torch.full((len(part),), label, device=part.device)
        found.append(functional.cross_entropy(logits, labels, reduction="none"))
    return torch.cat(found)
