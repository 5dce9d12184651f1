"""Matching distributions: mean features of synthetic and of real images, in random networks.

Source: Zhao and Bilen 2023, arXiv 2110.04181 (DM), equation 5.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from winnow.distill.engine.convnet_student import features_of, in_parts
from winnow.distill.engine.learned import Distilled, LearnedSet, Optimiser, learn
from winnow.distill.engine.params import DistributionParams
from winnow.distill.engine.view import DistillView
from winnow.errors import UserError
from winnow.train.engine.device import autocast_dtype
from winnow.train.engine.dsa import augment

WITH_GRAPH = 2048
"""Most synthetic images whose activations are kept: the published sets of Tiny-ImageNet have 10,000."""


def match_means(params: DistributionParams, view: DistillView) -> Distilled:
    """Learn images whose mean features are those of real images of their class, in ever new networks."""
    if view.real.targets is not None:
        raise UserError(f"{view.label}: matching distributions needs labels; remove `targets` from the suite")
    learned, pool = LearnedSet.begin(view, params.init), view.members()
    members, dtype = learned.members(view.classes), autocast_dtype(params.precision, view.device)
    present = [label for label, own in enumerate(members) if len(own)]

    def loss_of(step: int) -> Tensor:
        encoder = view.network(step).encoder.requires_grad_(False)
        random = Generator().manual_seed(view.derive("augmentation", step))
        real: list[Tensor] = []
        synthetic: list[Tensor] = []
        for label in present:
            order = torch.randperm(len(pool[label]), generator=random)[: params.batch_real]
            chosen = pool[label][order.to(pool[label].device)]
            seed = int(torch.randint(2**62, (1,), generator=random))
            for images, found in (
                (view.real.images[chosen], real),
                (learned.images[members[label]], synthetic),
            ):
                found.append(augment(images, params.augment, Generator().manual_seed(seed), shared=True))
        wanted = means(features_of(encoder, torch.cat(real), dtype), real)
        return (mean_features(encoder, synthetic) - wanted).square().sum()

    rates, moved = {"images": params.lr_images}, Optimiser(momentum=params.momentum)
    return learn(view, learned, params.iterations, loss_of, rates, moved)


def mean_features(encoder: torch.nn.Module, groups: list[Tensor]) -> Tensor:
    """Return the mean features (classes, d) of each group of images."""
    return means(in_parts(encoder, torch.cat(groups), WITH_GRAPH), groups)


def means(features: Tensor, groups: list[Tensor]) -> Tensor:
    """Return the mean of the rows that belong to each group, (groups, d)."""
    return torch.stack([part.mean(0) for part in torch.split(features, [len(group) for group in groups])])
