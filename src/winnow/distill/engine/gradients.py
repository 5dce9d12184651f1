"""Matching gradients: what a network would learn from the synthetic examples of a class, and from real ones.

Source: Zhao et al. 2021, arXiv 2006.05929 (DC), equation 9. The distance of two gradients is the sum, over
layers and over output channels, of 1 - cosine; biases and norms take no part. With real images that stand for
clusters, Liu et al. 2023, arXiv 2302.14416 (DREAM); with small images in one, and networks trained on real
images, Kim et al. 2022, arXiv 2205.14959 (IDC).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.autograd.function import FunctionCtx
from torchvision.transforms import v2

from winnow.distill.engine.convnet_student import student_of
from winnow.distill.engine.learned import Distilled, LearnedSet, Optimiser, learn
from winnow.distill.engine.nearest import Nearest, packed_nearest
from winnow.distill.engine.objective import one_hot
from winnow.distill.engine.params import GradientParams
from winnow.distill.engine.students import Student, flat
from winnow.distill.engine.view import DistillView
from winnow.errors import UserError
from winnow.train.engine.dsa import augment
from winnow.train.engine.synthetic import unpacked

EPSILON = 1e-6


def match_gradients(params: GradientParams, view: DistillView) -> Distilled:
    """Learn images whose gradients are those of real images; returns the set at the last iteration."""
    if view.real.targets is not None:
        raise UserError(f"{view.label}: matching gradients needs labels; remove `targets` from the suite")
    view.check_factor(params.factor)
    learned, network = _begin(params, view), view.network(0)
    if params.metric == "squared" and not any(p.dim() > 2 for p in network.parameters()):
        raise UserError(
            f"{view.label}: the squared distance is of convolutions, and {view.model.name} has none; set"
            " `metric: cosine`, or give `training` a model with convolutions"
        )
    student, shapes = student_of(network, "cross_entropy"), [p.shape for p in network.parameters()]
    weights, measure = flat(network.parameters()), MEASURES[params.metric]
    velocity = torch.zeros_like(weights)
    pool, wanted = view.members(), learned.labels.bincount(minlength=view.classes)
    nearest = Nearest(view, params.batch_real, wanted) if params.cluster_every else None

    def loss_of(step: int) -> Tensor:
        if step % params.rounds == 0:
            weights.copy_(flat(view.network(step // params.rounds).parameters()))
            velocity.zero_()
        if nearest is not None and step % params.rounds % (params.cluster_every or 1) == 0:
            nearest.look(network, weights, step)
        random = Generator().manual_seed(view.derive("augmentation", step))
        pairs = list(_pairs(params, view, learned, pool if nearest is None else nearest.members(), random))
        warm = step // params.rounds >= params.warm_up_iterations or step % params.rounds >= params.warm_up
        together = params.together and warm
        groups = [pairs] if together else [[pair] for pair in pairs]
        losses = [gradient_distance(student, weights, shapes, group, measure) for group in groups]
        return torch.stack(losses).sum()

    def train(step: int) -> None:
        if (step + 1) % params.rounds:
            _train(params, view, learned, student, (weights, velocity), step)

    return learn(
        view,
        learned,
        params.iterations * params.rounds,
        loss_of,
        {"images": params.lr_images},
        Optimiser(momentum=params.momentum),
        extras={"weights": weights, "velocity": velocity}
        | ({} if nearest is None else {"nearest": nearest.rows}),
        after_step=train,
    )


def _begin(params: GradientParams, view: DistillView) -> LearnedSet:
    """Return the set to start from: the given real images, or small ones that stand for clusters."""
    learned = LearnedSet.begin(view, params.init)
    learned.factor = params.factor
    if params.init == "real" and (params.cluster_every or params.factor > 1):
        learned.images.data = packed_nearest(view, learned.labels, params.factor, bool(params.cluster_every))
    return learned


Pair = tuple[Tensor, Tensor, Tensor, Tensor]
"""Real images and their labels as shares of classes, then synthetic ones."""
Measure = Callable[[Tensor, Tensor, Sequence[torch.Size]], Tensor]
"""Of a real and a synthetic gradient, (p,) each, and the shapes that they are made of."""


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
            for images in (view.real.images[chosen], learned.shown(own))
        )
        yield (
            real,
            one_hot(view.real.labels[chosen], view.classes),
            synthetic,
            one_hot(learned.labels[own].repeat(learned.factor**2), view.classes),
        )


def _train(
    params: GradientParams,
    view: DistillView,
    learned: LearnedSet,
    student: Student,
    state: tuple[Tensor, Tensor],
    step: int,
) -> None:
    """Train a network for some epochs on the synthetic set, or on real images; state: its weights and their
    velocity, which are changed in place.
    """
    weights, velocity = state
    random = Generator().manual_seed(view.derive("order", step))
    if params.train_on is None:
        images = unpacked(learned.images.detach(), learned.factor)
        labels = learned.labels.repeat(learned.factor**2)
    else:
        chosen = torch.randperm(len(view.real), generator=random)[: params.train_on].to(view.device)
        images, labels = view.real.images[chosen], view.real.labels[chosen]
    targets, strategy = one_hot(labels, view.classes), params.augment
    if params.cutmix:  # its patches are in place of empty ones
        strategy = "_".join(part for part in strategy.split("_") if part != "cutout")
    for _ in range(params.epochs):
        order = torch.randperm(len(images), generator=random).to(images.device)
        for rows in torch.split(order, params.batch_train):
            shown, shares = augment(images[rows], strategy, random), targets[rows]
            if params.cutmix:
                shown, shares = _cut_and_mixed(params, shown, shares, random)
            gradient = student.gradient(weights, shown, shares) + params.decay_network * weights
            velocity.mul_(params.momentum_network).add_(gradient)
            weights.sub_(params.lr_network * velocity)


def _cut_and_mixed(
    params: GradientParams, images: Tensor, targets: Tensor, random: Generator
) -> tuple[Tensor, Tensor]:
    """Return a share of all batches with patches of other images, and the labels (b, classes) of both."""
    chance, seed = torch.rand((), generator=random), torch.randint(2**62, (), generator=random)
    if float(chance) >= params.cutmix:
        return images, targets
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        mixed: tuple[Tensor, Tensor] = v2.CutMix(alpha=1.0, num_classes=targets.shape[1])(images, targets)
    return mixed


def gradient_distance(
    student: Student,
    weights: Tensor,
    shapes: Sequence[torch.Size],
    pairs: Sequence[Pair],
    measure: Measure | None = None,
) -> Tensor:
    """Return the distance of the mean gradients of some pairs, differentiable by the synthetic images."""
    parts = [part for pair in pairs for part in pair]
    found: Tensor = _Distance.apply(student, weights, shapes, measure or distance, *parts)
    return found


class _Distance(torch.autograd.Function):
    """The derivative by the images is the mixed one of the gradient, along the derivative of the distance."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Student,
        weights: Tensor,
        shapes: Sequence[torch.Size],
        measure: Measure,
        *parts: Tensor,
    ) -> Tensor:
        pairs = [parts[place : place + 4] for place in range(0, len(parts), 4)]
        real, synthetic = (
            torch.stack([student.gradient(weights, pair[at], pair[at + 1]) for pair in pairs]).mean(0)
            for at in (0, 2)
        )
        with torch.enable_grad():
            synthetic.requires_grad_()
            loss = measure(real, synthetic, shapes)
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
        return None, None, None, None, *found


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


def squared_distance(real: Tensor, synthetic: Tensor, shapes: Sequence[torch.Size]) -> Tensor:
    """Return the squared distance of the gradients of convolutions; the last layer takes no part either."""
    sizes = [shape.numel() for shape in shapes]
    parts = zip(torch.split(real, sizes), torch.split(synthetic, sizes), shapes, strict=True)
    found = [(a - b).square().sum() for a, b, shape in parts if len(shape) > 2]
    return torch.stack(found).sum() if found else 0 * synthetic.sum()


MEASURES: dict[str, Measure] = {"cosine": distance, "squared": squared_distance}
