"""Dataset distillation: one outer step of trajectory matching, its memory, and iterations of DM.

The peer of trajectory matching is the released algorithm: a training of N steps whose graph is kept whole
(`create_graph`), and one backward pass through it. ConvNet of depth 3 and width 64, batches of 128 images
of 32 x 32 pixels; the fastest of three steps counts, the first of which is not one of them. Memory is that
of a process of its own, less what it holds before its first step. The peer of DM is the released loop: class
after class, channels first, float32, the real images' graph kept.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.comparison import Comparison, peak_gb, timed
from winnow import registry
from winnow.distill.engine.convnet_student import features_of, student_of
from winnow.distill.engine.distributions import mean_features, means
from winnow.distill.engine.objective import one_hot
from winnow.distill.engine.students import AutogradStudent, flat
from winnow.distill.engine.unroll import matching_loss
from winnow.train.engine.classifier import Classifier, assemble
from winnow.train.engine.device import autocast_dtype, pick_device

WIDTH, BATCH, CLASSES, SIZE, REPEATS = 64, 128, 10, 32, 3
REAL, PER_CLASS, DM_WIDTH = 256, 10, 128
Result = TypeVar("Result")


@dataclass(frozen=True)
class Step:
    """One outer step: its seconds, the memory it needed beyond what was there, the gradient by all images."""

    seconds: float
    memory_gb: float
    gradient: Tensor


def network(width: int) -> Classifier:
    torch.manual_seed(0)
    model = registry.load("models", "convnet", "benchmark")
    return assemble(model, model.params(depth=3, width=width), 3, SIZE, CLASSES).to(pick_device("auto"))


def outer_step(steps: int, plain: bool, repeats: int) -> Step:
    """Take some outer steps, after one that is not counted, and return the fastest."""
    device = pick_device("auto")
    torch.set_num_threads(2)
    net = network(WIDTH)
    student = AutogradStudent(net, "cross_entropy") if plain else student_of(net, "cross_entropy")
    start = flat(net.parameters())
    target = start + 0.02 * torch.randn(start.shape, generator=torch.Generator().manual_seed(1)).to(device)
    random = torch.Generator().manual_seed(2)
    images = [torch.randn(BATCH, 3, SIZE, SIZE, generator=random).to(device) for _ in range(steps)]
    labels = [torch.randint(CLASSES, (BATCH,), generator=random) for _ in range(steps)]
    targets = [one_hot(label, CLASSES).to(device) for label in labels]
    step_size = torch.tensor(0.02, device=device, requires_grad=True)
    for shown in images:
        shown.requires_grad_()

    def once() -> list[Tensor]:
        mode = "graph" if plain else "recursion"
        loss = matching_loss(student, start, target, images, targets, step_size, mode)
        found = torch.autograd.grad(loss, [*images, step_size])
        if device.type == "cuda":
            torch.cuda.synchronize()
        return list(found)

    before = _memory(device)
    short = images, targets
    images, targets = images[:1], targets[:1]
    once()  # what the libraries load and compile at first use is not the time of a step
    images, targets = short
    runs = [timed(once) for _ in range(repeats)]
    seconds = min(taken for taken, _ in (runs[1:] or runs))
    gradient = torch.cat([part.flatten().cpu() for part in runs[-1][1]])
    return Step(seconds, _memory(device) - before, gradient)


def _memory(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else peak_gb()


def alone(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def trajectory(steps: int, repeats: int) -> Comparison:
    """Compare time and memory of an outer step of N steps."""
    ours, peer = (alone(outer_step, steps, plain, repeats) for plain in (False, True))
    cosine = float(functional.cosine_similarity(ours.gradient, peer.gradient, dim=0))
    share = ours.memory_gb / peer.memory_gb
    return Comparison(
        name=f"distill/mtt_step_{steps}",
        input=f"ConvNet D3 W{WIDTH}, batch {BATCH}, N = {steps}, {pick_device('auto').type}; "
        f"{ours.memory_gb:.2f} and {peer.memory_gb:.2f} GB, {share:.2f} of the memory",
        n=steps,
        ours_s=ours.seconds,
        peer="plain unrolled graph",
        peer_s=peer.seconds,
        ratio=peer.seconds / ours.seconds,
        quality=cosine,
        quality_is="cosine of the gradients",
        peak_gb=ours.memory_gb,
    )


def dm_ours(repeats: int) -> tuple[float, float]:
    """Return seconds of an iteration, with its backward pass, and its loss."""
    encoder, real, synthetic = _dm_data()
    dtype = autocast_dtype("auto", real[0].device)

    def once() -> float:
        wanted = means(features_of(encoder, torch.cat(real), dtype), real)
        loss = (mean_features(encoder, synthetic) - wanted).square().sum()
        torch.autograd.grad(loss, synthetic)
        return float(loss.detach())

    return _fastest(once, repeats)


def dm_released(repeats: int) -> tuple[float, float]:
    """Return the same of the released loop."""
    encoder, real, synthetic = _dm_data()

    def once() -> float:
        loss = torch.zeros((), device=real[0].device)
        for shown, own in zip(real, synthetic, strict=True):
            wanted = encoder(shown).detach()
            loss = loss + (wanted.mean(0) - encoder(own).mean(0)).square().sum()
        torch.autograd.grad(loss, synthetic)
        return float(loss.detach())

    for parameter in encoder.parameters():
        parameter.requires_grad_()
    return _fastest(once, repeats)


def _dm_data() -> tuple[torch.nn.Module, list[Tensor], list[Tensor]]:
    torch.set_num_threads(2)
    device, random = pick_device("auto"), torch.Generator().manual_seed(2)
    encoder = network(DM_WIDTH).encoder.requires_grad_(False)
    real, synthetic = (
        [torch.randn(count, 3, SIZE, SIZE, generator=random).to(device) for _ in range(CLASSES)]
        for count in (REAL, PER_CLASS)
    )
    return encoder, real, [part.requires_grad_() for part in synthetic]


def _fastest(once: Callable[[], float], repeats: int) -> tuple[float, float]:
    once()
    runs = [timed(once) for _ in range(repeats)]
    return min(taken for taken, _ in runs), runs[-1][1]


def distribution_matching() -> Comparison:
    (ours_s, ours), (peer_s, peer) = (alone(each, REPEATS) for each in (dm_ours, dm_released))
    return Comparison(
        name="distill/dm_iteration",
        input=f"ConvNet D3 W{DM_WIDTH}, {CLASSES} classes, {REAL} real and {PER_CLASS} synthetic images each",
        n=CLASSES * (REAL + PER_CLASS),
        ours_s=ours_s,
        peer="released loop",
        peer_s=peer_s,
        ratio=peer_s / ours_s,
        quality=ours / peer,
        quality_is="loss over the peer's",
        peak_gb=peak_gb(),
    )


def run() -> Iterator[Comparison]:
    yield trajectory(10, REPEATS)
    yield trajectory(40, 1)
    yield distribution_matching()
