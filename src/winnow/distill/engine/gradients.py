"""Matching gradients: what a network would learn from the synthetic examples of a class, and from real ones.

Source: Zhao et al. 2021, arXiv 2006.05929 (DC), equation 9. The distance of two gradients is the sum, over
layers and over output channels, of 1 - cosine; biases and norms take no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.autograd.function import FunctionCtx

from winnow.distill.engine.convnet_student import student_of
from winnow.distill.engine.learned import Distilled, LearnedSet, learn
from winnow.distill.engine.objective import one_hot
from winnow.distill.engine.params import GradientParams
from winnow.distill.engine.students import Student, flat
from winnow.distill.engine.view import DistillView
from winnow.errors import UserError
from winnow.train.engine.dsa import augment

EPSILON = 1e-6


def match_gradients(params: GradientParams, view: DistillView) -> Distilled:
    """Learn images whose gradients are those of real images; returns the set at the last iteration."""
    if view.real.targets is not None:
        raise UserError(f"{view.label}: matching gradients needs labels; remove `targets` from the suite")
    learned, pool = LearnedSet.begin(view, params), view.members()
    network = view.network(0)
    student, shapes = student_of(network, "cross_entropy"), [p.shape for p in network.parameters()]
    weights = flat(network.parameters())

    def loss_of(step: int) -> Tensor:
        if step % params.rounds == 0:
            weights.copy_(flat(view.network(step // params.rounds).parameters()))
        random = Generator().manual_seed(view.derive("augmentation", step))
        pairs = list(_pairs(params, view, learned, pool, random))
        warm = step // params.rounds >= params.warm_up_iterations or step % params.rounds >= params.warm_up
        together = params.together and warm
        groups = [pairs] if together else [[pair] for pair in pairs]
        losses = [gradient_distance(student, weights, shapes, group) for group in groups]
        return torch.stack(losses).sum()

    def train(step: int) -> None:
        if (step + 1) % params.rounds:
            weights.copy_(_trained(params, view, learned, student, weights, step))

    iterations = params.iterations * params.rounds
    return learn(
        view,
        params,
        learned,
        iterations,
        loss_of,
        {"images": params.lr_images},
        extras={"weights": weights},
        after_step=train,
    )


Pair = tuple[Tensor, Tensor, Tensor, Tensor]
"""Real images and their labels as shares of classes, then synthetic ones."""


def _pairs(
    params: GradientParams, view: DistillView, learned: LearnedSet, pool: Sequence[Tensor], random: Generator
) -> Any:
    """Yield for each class real and synthetic images, changed by one augmentation."""
    for label, own in enumerate(learned.members(view.classes)):
        if not len(own):
            continue
        chosen = pool[label][
            torch.randperm(len(pool[label]), generator=random)[: params.batch_real].to(pool[label].device)
        ]
        seed = int(torch.randint(2**62, (1,), generator=random))
        real, synthetic = (
            augment(images, params.augment, Generator().manual_seed(seed), shared=True)
            for images in (view.real.images[chosen], learned.images[own])
        )
        yield (
            real,
            one_hot(view.real.labels[chosen], view.classes),
            synthetic,
            one_hot(learned.labels[own], view.classes),
        )


def _trained(
    params: GradientParams,
    view: DistillView,
    learned: LearnedSet,
    student: Student,
    weights: Tensor,
    step: int,
) -> Tensor:
    """Return the weights after some epochs on the synthetic set."""
    random = Generator().manual_seed(view.derive("order", step))
    images, targets = learned.images.detach(), one_hot(learned.labels, view.classes)
    for _ in range(params.epochs):
        order = torch.randperm(len(images), generator=random).to(images.device)
        for rows in torch.split(order, params.batch_train):
            shown = augment(images[rows], params.augment, random)
            weights = weights - params.lr_network * student.gradient(weights, shown, targets[rows])
    return weights


def gradient_distance(
    student: Student, weights: Tensor, shapes: Sequence[torch.Size], pairs: Sequence[Pair]
) -> Tensor:
    """Return the distance of the mean gradients of some pairs, differentiable by the synthetic images."""
    found: Tensor = _Distance.apply(student, weights, shapes, *[part for pair in pairs for part in pair])
    return found


class _Distance(torch.autograd.Function):
    """The derivative by the images is the mixed one of the gradient, along the derivative of the distance."""

    @staticmethod
    def forward(
        ctx: Any, student: Student, weights: Tensor, shapes: Sequence[torch.Size], *parts: Tensor
    ) -> Tensor:
        pairs = [parts[place : place + 4] for place in range(0, len(parts), 4)]
        real, synthetic = (
            torch.stack([student.gradient(weights, pair[at], pair[at + 1]) for pair in pairs]).mean(0)
            for at in (0, 2)
        )
        with torch.enable_grad():
            synthetic.requires_grad_()
            loss = distance(real, synthetic, shapes)
        (direction,) = torch.autograd.grad(loss, synthetic)
        ctx.student, ctx.count = student, len(pairs)
        ctx.save_for_backward(weights.clone(), direction, *[part for pair in pairs for part in pair[2:]])
        return loss.detach()

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Any:
        weights, direction, *rest = ctx.saved_tensors  # type: ignore[attr-defined]
        along = grads[0] * direction / ctx.count  # type: ignore[attr-defined]
        found: list[Tensor | None] = []
        for images, targets in zip(rest[::2], rest[1::2], strict=True):
            found += [None, None, ctx.student.mixed(weights, images, targets, along).images, None]  # type: ignore[attr-defined]
        return None, None, None, *found


def distance(real: Tensor, synthetic: Tensor, shapes: Sequence[torch.Size]) -> Tensor:
    """Return the sum over layers and output channels of 1 - cosine; real, synthetic: (p,) gradients."""
    sizes = [shape.numel() for shape in shapes]
    total = synthetic.new_zeros(())
    parts = zip(torch.split(real, sizes), torch.split(synthetic, sizes), shapes, strict=True)
    for first, second, shape in parts:
        if len(shape) > 1:
            a, b = first.view(shape[0], -1), second.view(shape[0], -1)
            cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + EPSILON)
            total = total + (1 - cosine).sum()
    return total
