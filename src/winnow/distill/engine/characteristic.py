"""Matching characteristic functions: the mean of exp(i t . x) over features x, at frequencies t.

Source: Wang et al. 2025, arXiv 2502.20653 (NCFM). All classes share an iteration's frequencies and move in
one step of the optimiser; the released code draws and makes a step for each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from torch.nn.utils import vector_to_parameters

from winnow.distill.engine.convnet_student import features_of
from winnow.distill.engine.learned import Distilled, LearnedSet, Optimiser, learn
from winnow.distill.engine.nearest import packed_nearest
from winnow.distill.engine.view import DistillView
from winnow.distill.ncfm import NCFMParams
from winnow.errors import UserError
from winnow.train.engine.classifier import Classifier
from winnow.train.engine.device import autocast_dtype
from winnow.train.engine.dsa import augment

SCALE, LEAST, REPEATED = 300.0, 1e-12, 16


def match_characteristic(params: NCFMParams, view: DistillView) -> Distilled:
    """Learn images, and with a sampler also the frequencies at which they are compared."""
    if view.real.targets is not None:
        raise UserError(f"{view.label}: matching distributions needs labels; remove `targets` from the suite")
    if not view.experts:
        raise UserError(f"{view.label}: no expert trajectories; give `experts` the trainer experts")
    view.check_factor(params.factor)
    learned, pool, network = LearnedSet.begin(view, "real"), view.members(), view.network(0)
    if params.factor > 1:
        learned.factor = params.factor
        learned.images.data = packed_nearest(view, learned.labels, params.factor, clustered=False)
    if params.sampler:
        torch.manual_seed(view.derive("init", "sampler"))
        learned.helper = Sampler(network.head.in_features).to(view.device)
    dtype = autocast_dtype(params.precision, view.device)
    groups = [(label, own) for label, own in enumerate(learned.members(view.classes)) if len(own)]

    def loss_of(step: int) -> Tensor:
        random = Generator().manual_seed(view.derive("augmentation", step))
        encoder, synthetic, losses = between(view, network, random), [], []
        at = drawn(learned.helper, params.frequencies, network.head.in_features, _on_device(view, step))
        for label, own in groups:
            order = torch.randperm(len(pool[label]), generator=random)[: params.batch_real]
            seed = int(torch.randint(2**62, (1,), generator=random))
            parts = [
                augment(images, params.augment, Generator().manual_seed(seed), shared=True)
                for images in (view.real.images[pool[label][order.to(view.device)]], learned.shown(own))
            ]
            synthetic.append(parts[1])
            real = functional.normalize(features_of(encoder, parts[0], dtype), dim=1)
            made = functional.normalize(
                encoder(parts[1].contiguous(memory_format=torch.channels_last)), dim=1
            )
            losses.append(SCALE * distance(real, made, at))
        total = torch.stack(losses).sum()
        if params.calibration:
            total = total + params.calibration * calibration(view, network, groups, synthetic, random)
        return total

    return learn(
        view,
        learned,
        params.iterations,
        loss_of,
        {"images": params.lr_images} | ({"helper": params.lr_sampler} if params.sampler else {}),
        Optimiser("adamw", weight_decay=params.weight_decay, schedule="plateau"),
        after_step=lambda _: view.clamp(learned.images.data),
    )


def _on_device(view: DistillView, step: int) -> Generator:
    """Return a generator where the networks are: millions of numbers an iteration are slow to bring there."""
    return Generator(view.device).manual_seed(view.derive("augmentation", "frequencies", step))


def between(view: DistillView, network: Classifier, random: Generator) -> nn.Module:
    """Return an encoder whose weights are a random share of an expert's first ones and of its last ones."""
    expert = int(torch.randint(len(view.experts), (1,), generator=random))
    share = float(torch.rand((), generator=random))
    (first,) = view.epochs_of(expert, (0,))
    vector_to_parameters(torch.lerp(view.last_of(expert), first, share), network.parameters())
    return network.encoder.requires_grad_(False)


def calibration(
    view: DistillView,
    network: Classifier,
    groups: list[tuple[int, Tensor]],
    synthetic: list[Tensor],
    random: Generator,
) -> Tensor:
    """Return the sum over classes of the cross-entropy of a trained expert on the synthetic images."""
    expert = int(torch.randint(len(view.experts), (1,), generator=random))
    # A network of its own: the encoder's weights are still needed for the backward pass.
    trained = view.network(0).requires_grad_(False)
    vector_to_parameters(view.last_of(expert), trained.parameters())
    losses = [
        functional.cross_entropy(trained(images), torch.full((len(images),), label, device=images.device))
        for (label, _), images in zip(groups, synthetic, strict=True)
    ]
    return torch.stack(losses).sum()


def distance(real: Tensor, synthetic: Tensor, frequencies: Tensor) -> Tensor:
    """Return the mean over frequencies (k, d) of how far two characteristic functions are apart.

    real, synthetic: features (n, d) and (m, d). Amplitudes and phases count alike: the root of
    (|F| - |G|)^2 / 2 + (|F||G| - Re F Re G - Im F Im G).
    """
    (a, b), (c, d) = (_characteristic(features, frequencies) for features in (real, synthetic))
    first, second = (x.square().add(y.square()).clamp_min(LEAST).sqrt() for x, y in ((a, b), (c, d)))
    amplitude = (first - second).square()
    phase = 2 * (first * second - a * c - b * d)
    return (0.5 * amplitude + 0.5 * phase.clamp_min(LEAST)).sqrt().mean()


def _characteristic(features: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    angles = features @ frequencies.T
    return angles.cos().mean(0), angles.sin().mean(0)


class Sampler(nn.Module):
    """Scales of frequencies from noise: three layers of width d, the last one through tanh.

    The scales of one draw serve `REPEATED` frequencies, each of which is a normal draw of its own: the
    frequencies are a mixture of normals. The released code leaves out that draw.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for last in (False, False, True):
            layers += [
                nn.Linear(width, width),
                nn.BatchNorm1d(width, track_running_stats=False),
                nn.Tanh() if last else nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers)
        self.width = width

    def forward(self, noise: Tensor) -> Tensor:
        found: Tensor = self.layers(noise)
        return found


def drawn(sampler: nn.Module | None, count: int, width: int, random: Generator) -> Tensor:
    """Return (count, width) frequencies; their derivative by the sampler's weights has the other sign.

    They are on the generator's device, and another device has others.
    """
    normal = torch.randn(count, width, generator=random, device=random.device)
    if sampler is None:
        return normal
    rows = max(2, -(-count // REPEATED))
    noise = torch.randn(rows, width, generator=random, device=random.device)
    found: Tensor = _Reversed.apply(sampler(noise)).repeat(REPEATED, 1)[:count] * normal
    return found


class _Reversed(torch.autograd.Function):
    """The same numbers, but the derivative with the other sign: what comes before it maximises."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Any:
        return -grads[0]
