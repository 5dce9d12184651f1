"""Kernel ridge regression from synthetic to real images, in the features of a pool of networks.

Source: Lee et al. 2024, arXiv 2310.06511 (KRR-ST), equations 5 to 7. Networks
with batch norm train by the batch's statistics and give features by running ones, as released.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.nn.utils import vector_to_parameters

from winnow.distill.engine.convnet_student import student_of
from winnow.distill.engine.learned import Distilled, LearnedSet, Optimiser, learn
from winnow.distill.engine.students import AutogradStudent, flat
from winnow.distill.engine.view import DistillView
from winnow.distill.krr_st import KRRSTParams
from winnow.errors import UserError
from winnow.train.engine.classifier import Classifier

MOMENTUM = 0.9


def regress(params: KRRSTParams, view: DistillView) -> Distilled:
    """Learn images and targets together."""
    if view.real.targets is None:
        raise UserError(f"{view.label}: kernel regression needs `targets` in the suite")
    learned, pool = LearnedSet.begin(view, "real"), Pool(params, view)
    targets, is_moved = view.real.targets, bool(params.crop or params.flip)
    teacher = view.teacher() if is_moved else None

    def shown(rows: Tensor, random: Generator) -> tuple[Tensor, Tensor]:
        images = view.real.images[rows]
        if teacher is None:
            return images, targets[rows]
        images = moved(images, params.crop, params.flip, view.bounds[0], random)
        return images, teacher(images)

    def loss_of(step: int) -> Tensor:
        if step == 0:
            pool.begin(learned)
        random = Generator().manual_seed(view.derive("order", step))
        network = pool.network(pool.drawn(step))
        rows = torch.randperm(len(view.real), generator=random)[: params.batch_real].to(view.device)
        with torch.no_grad():
            images, wanted = shown(rows, random)
            real = embedded(network, images)
        predicted = ridge_regression(real, embedded(network, learned.images), learned.targets, params.ridge)
        return functional.mse_loss(predicted, wanted.to(predicted))

    def after(step: int) -> None:
        pool.update(pool.drawn(step), learned, step)

    rate = params.lr_images
    return learn(
        view,
        learned,
        params.iterations,
        loss_of,
        {"images": rate, "targets": rate},
        Optimiser("adamw", schedule="line"),
        extras={
            "pool": pool.weights,
            "statistics": pool.statistics,
            "momentum": pool.momentum,
            "ages": pool.ages,
        },
        after_step=after,
    )


def moved(images: Tensor, most: int, flip: bool, black: Tensor, random: Generator) -> Tensor:
    """Return images (n, c, h, w), each shifted by up to `most` pixels and, with `flip`, mirrored or not.

    black: (c,), what a shift uncovers.
    """
    count, channels, height, width = images.shape
    behind = black[:, None, None].expand(count, channels, height + 2 * most, width + 2 * most).clone()
    behind[..., most : most + height, most : most + width] = images
    down, right = torch.randint(2 * most + 1, (2, count, 1), generator=random)
    is_mirrored = (torch.rand(count, 1, generator=random) < 0.5) & flip
    rows, columns = torch.arange(height) + down, torch.arange(width) + right
    columns = torch.where(is_mirrored, columns.flip(1), columns)
    places = torch.cat([rows, columns], 1).to(images.device)
    which = torch.arange(count, device=images.device)[:, None, None]
    pixels = behind.permute(0, 2, 3, 1)[which, places[:, :height, None], places[:, None, height:]]
    return pixels.permute(0, 3, 1, 2)


def embedded(network: Classifier, images: Tensor) -> Tensor:
    """Return features (n, d + 1) with a constant 1 beside them."""
    features = network.encoder(images.contiguous(memory_format=torch.channels_last))
    return torch.cat([features, torch.ones_like(features[:, :1])], 1)


def ridge_regression(real: Tensor, synthetic: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """Return K_rs (K_ss + l I)^-1 y for features (n, d) and (m, d) and targets (m, k), in float64.

    l is `ridge` times the trace of K_ss, and is not differentiated.
    """
    real, synthetic, targets = real.double(), synthetic.double(), targets.double()
    kernel = synthetic @ synthetic.T
    level = ridge * kernel.detach().diagonal().sum()
    identity = torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    weights: Tensor = torch.linalg.solve(kernel + level * identity, targets)
    return real @ (synthetic.T @ weights)


class Pool:
    """Networks that train on the synthetic set, a step at a time.

    weights, momentum: (k, p). statistics: (k, q), the running ones. ages: (k,).
    """

    def __init__(self, params: KRRSTParams, view: DistillView) -> None:
        self.params, self.view = params, view
        self.student = student_of(view.network(0), "mse")
        self.still = view.network(0).requires_grad_(False).eval()
        self.shapes = {name: buffer.shape for name, buffer in _running(self.still).items()}
        self.weights = torch.zeros(params.pool, view.parameters, device=view.device)
        self.statistics = torch.zeros(
            params.pool, sum(shape.numel() for shape in self.shapes.values()), device=view.device
        )
        self.momentum = torch.zeros_like(self.weights)
        self.ages = torch.zeros(params.pool, dtype=torch.int64)

    def network(self, place: int) -> Classifier:
        """Return a network as it gives features, until the next one is asked for."""
        vector_to_parameters(self.weights[place].clone(), self.still.parameters())
        own = _running(self.still)
        for name, value in self._buffers(place).items():
            own[name].copy_(value)
        return self.still

    def begin(self, learned: LearnedSet) -> None:
        """Draw all networks and train each for a random number of steps."""
        random = Generator().manual_seed(self.view.derive("init", "pool"))
        ages = torch.randint(1, self.params.oldest, (self.params.pool,), generator=random)
        for place, age in enumerate(ages.tolist()):
            self._draw(place, place)
            for _ in range(age):
                self._train(place, learned)

    def drawn(self, step: int) -> int:
        """Return the network that an iteration uses."""
        random = Generator().manual_seed(self.view.derive("selection", "pool", step))
        return int(torch.randint(self.params.pool, (1,), generator=random))

    def update(self, place: int, learned: LearnedSet, step: int) -> None:
        """Train a network for a step; one that has reached its limit is drawn anew instead."""
        if self.ages[place] < self.params.oldest:
            self._train(place, learned)
            return
        age = int(self.ages[place])
        self._draw(place, self.params.pool + step)
        if not self.params.reset:
            self.ages[place] = age

    def _draw(self, place: int, number: int) -> None:
        network = self.view.network(number)
        self.weights[place] = flat(network.parameters())
        for value, fresh in zip(self._buffers(place).values(), _running(network).values(), strict=True):
            value.copy_(fresh)
        self.momentum[place], self.ages[place] = 0.0, 0

    def _train(self, place: int, learned: LearnedSet) -> None:
        weights, images, targets = self.weights[place], learned.images.detach(), learned.targets.detach()
        if isinstance(self.student, AutogradStudent):
            slope = self.student.gradient(weights, images, targets, self._buffers(place))
        else:
            slope = self.student.gradient(weights, images, targets)
        self.momentum[place].mul_(MOMENTUM).add_(slope + self.params.decay_network * weights)
        weights.sub_(self.params.lr_network * self.momentum[place])
        self.ages[place] += 1

    def _buffers(self, place: int) -> dict[str, Tensor]:
        """Return a network's running statistics by name: views, which change with what is written to them."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        parts = torch.split(self.statistics[place], sizes)
        return {
            name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }


def _running(network: nn.Module) -> dict[str, Tensor]:
    """Return the statistics that a network carries on while it trains; counts of batches are not read."""
    return {name: buffer for name, buffer in network.named_buffers() if buffer.is_floating_point()}
