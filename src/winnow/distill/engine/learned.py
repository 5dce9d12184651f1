"""A synthetic set that is learned: its pixels, its targets, its step size, and the loop that moves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from winnow.distill.engine.objective import one_hot
from winnow.distill.engine.view import DistillView
from winnow.errors import UserError
from winnow.train.engine.loop import Loop, Passes, Schedule
from winnow.train.engine.synthetic import SyntheticSet, unpacked

SNAPSHOTS, SHOWN = 6, 100
"""How often the pictures are kept on the way, and how many of them."""

PATIENCE = 500
"""Steps without a lower loss, after which `Plateau` halves the rates."""


@dataclass(frozen=True)
class Distilled:
    """The set, its history (iteration, loss, step_size), and pictures on the way.

    snapshots: (k, n, c, h, w) after `iterations` (k,); labels of the n examples shown.
    """

    given: SyntheticSet
    history: pd.DataFrame
    snapshots: Tensor
    iterations: list[int]
    labels: Tensor


@dataclass(frozen=True)
class Optimiser:
    """How the parts of a set move. own_momentum: of parts by name; betas: of Adam, of AdamW without decay.

    schedule: the rates are constant, fall as half a cosine or on a line to a thousandth, or are halved
    wherever the loss has stopped falling (`Plateau`).
    """

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: float = 0.0
    own_momentum: dict[str, float] = field(default_factory=dict)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "line", "plateau"] = "constant"

    def over(
        self, parts: dict[str, nn.Module | nn.Parameter], rates: dict[str, float]
    ) -> torch.optim.Optimizer:
        """Return the optimiser of some parts, each with its rate."""
        groups = []
        for name, part in parts.items():
            parameters = list(part.parameters()) if isinstance(part, nn.Module) else [part]
            groups.append({"params": parameters, "scale": rates[name]})
            if self.name == "sgd":
                groups[-1]["momentum"] = self.own_momentum.get(name, self.momentum)
        if self.name == "sgd":
            return torch.optim.SGD(groups, lr=1.0, momentum=self.momentum)
        kind = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
        return kind(groups, lr=1.0, betas=self.betas, weight_decay=self.weight_decay)

    def rates(self, steps: int) -> Schedule:
        """Return the factor of all rates by step."""
        kinds: dict[str, type[Schedule]] = {"line": _Line, "plateau": Plateau}
        return kinds.get(self.schedule, Schedule)(1.0, steps, self.schedule == "cosine")


class _Line(Schedule):
    """The rate falls on a line, to a thousandth of the first one."""

    def __call__(self, step: int) -> float:
        return self.peak * (1 - 0.999 * step / self.steps)


@dataclass(frozen=True)
class Plateau(Schedule):
    """The rate is halved after more than `PATIENCE` losses none of which was below the least one before.

    As torch's `ReduceLROnPlateau`: "below" is by a ten-thousandth at least. state: the least loss, how many
    losses since, the factor of the rate.
    """

    state: Tensor = field(default_factory=lambda: torch.tensor([torch.inf, 0.0, 1.0], dtype=torch.float64))

    def __call__(self, step: int) -> float:
        return self.peak * float(self.state[2])

    def observe(self, loss: float) -> None:
        """Take in the loss of one more step."""
        least, waited, factor = self.state.tolist()
        found = (loss, 0, factor) if loss < least * (1 - 1e-4) else (least, waited + 1, factor)
        if found[1] > PATIENCE:
            found = (found[0], 0, factor / 2)
        self.state.copy_(torch.tensor(found))


class LearnedSet(nn.Module):
    """What is learned. targets: (m, d), soft labels or what is regressed on; moved only if asked to.

    factor: each image holds factor^2 small ones. helper: a network that is learned beside the set.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, targets: Tensor, step_size: float | None = None, factor: int = 1
    ) -> None:
        super().__init__()
        self.factor = factor
        self.helper: nn.Module | None = None
        self.images = nn.Parameter(images)
        self.targets = nn.Parameter(targets)
        self.labels = labels
        self.are_logits = False
        self.step_size = None if step_size is None else nn.Parameter(torch.tensor(step_size).to(images))

    @classmethod
    def begin(cls, view: DistillView, init: str, step_size: float | None = None) -> LearnedSet:
        """Return a set that starts from real examples (`init` real), or from `noise` with their labels."""
        start = view.real.take(view.start.to(view.device))
        if start.targets is None and bool((start.labels < 0).any()):
            raise UserError(f"{view.label}: some examples have no label, which this method needs")
        images = start.images.clone()
        if init == "noise":
            random = torch.Generator().manual_seed(view.derive("init", "noise"))
            images = torch.randn(images.shape, generator=random).to(images)
        targets = start.targets if start.targets is not None else one_hot(start.labels, view.classes)
        return cls(images, start.labels, targets.clone(), step_size)

    def shares(self) -> Tensor:
        """Return the targets as students are shown them: learned logits become shares of classes."""
        return self.targets.softmax(1) if self.are_logits else self.targets

    def shown(self, rows: Tensor) -> Tensor:
        """Return the images of some rows as networks are shown them, factor^2 for each."""
        return unpacked(self.images[rows], self.factor)

    def members(self, classes: int) -> list[Tensor]:
        return [(self.labels == label).nonzero().flatten() for label in range(classes)]


def learn(
    view: DistillView,
    learned: LearnedSet,
    iterations: int,
    loss_of: Callable[[int], Tensor],
    rates: dict[str, float],
    optimiser: Optimiser,
    soft: bool = False,
    average: float = 0.0,
    extras: dict[str, Tensor] | None = None,
    after_step: Callable[[int], None] | None = None,
) -> Distilled:
    """Minimise `loss_of(iteration)`, and return the set after the last iteration.

    rates: of each part of the set by name; one that has none stays as it is. soft: whether its targets are
    soft labels (or to be regressed on) and not one class. average: return the running average of the images,
    with this memory. extras: further tensors that a resumed run needs. after_step: may change the images.
    """
    parts = {name: getattr(learned, name) for name in rates}
    for name, parameter in learned.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in parts)
    averaged = learned.images.detach().clone()
    shown = pictured(learned, view.classes)
    kept_at = sorted({round(share * iterations) for share in np.linspace(0, 1, SNAPSHOTS)})
    snapshots = torch.zeros(len(kept_at), len(shown), *learned.images.shape[1:])
    snapshots[0] = learned.images.detach()[shown].cpu()
    trace = torch.zeros(iterations)

    schedule, latest = optimiser.rates(iterations), torch.zeros(())
    stalls = {"stalls": schedule.state} if isinstance(schedule, Plateau) else {}

    def step_loss(_: Tensor, step: int) -> Tensor:
        nonlocal latest
        loss = loss_of(step)
        latest = loss.detach()
        return loss

    def after(step: int) -> None:
        if after_step is not None:
            after_step(step)
        if isinstance(schedule, Plateau):
            schedule.observe(float(latest))
        if learned.step_size is not None:
            trace[step] = learned.step_size.detach().cpu()
        if step + 1 in kept_at:
            snapshots[kept_at.index(step + 1)] = learned.images.detach()[shown].cpu()
        if average:
            averaged.mul_(average).add_(learned.images.detach(), alpha=1 - average)

    loop = Loop(
        model=learned,
        optimiser=optimiser.over(parts, rates),
        schedule=schedule,
        step_loss=step_loss,
        passes=Passes(1, 1, view.root_seed, view.seed, ("distill",)),
        device=view.device,
        dtype=None,
        checkpoint=view.checkpoint,
        label=view.label,
        extras={"snapshots": snapshots, "trace": trace, "averaged": averaged, **stalls, **(extras or {})},
        after_step=after,
    )
    losses = loop.run()[:, 0]
    if average:
        learned.images.data.copy_(averaged)
        snapshots[-1] = averaged[shown].cpu()
    view.cost.wall_s += loop.carried["wall_s"]
    view.cost.cpu_s += loop.carried["cpu_s"]
    history = {"iteration": range(1, iterations + 1), "loss": losses.numpy()}
    if learned.step_size is not None:
        history["step_size"] = trace.numpy()
    return Distilled(
        finished(view, learned, soft),
        pd.DataFrame(history),
        snapshots,
        kept_at,
        learned.labels[shown].cpu(),
    )


def finished(view: DistillView, learned: LearnedSet, soft: bool) -> SyntheticSet:
    """Return what was learned, on the processor."""
    images, targets = (part.detach().cpu().contiguous() for part in (learned.images, learned.shares()))
    step_size = None if learned.step_size is None else float(learned.step_size.detach())
    regresses = view.real.targets is not None
    return SyntheticSet(
        images,
        learned.labels.cpu(),
        soft=targets if soft and not regresses else None,
        step_size=step_size,
        targets=targets if regresses else None,
        factor=learned.factor,
    )


def pictured(learned: LearnedSet, classes: int) -> Tensor:
    """Return the examples whose pictures are kept: equally many of each class, as far as there are."""
    each = max(1, SHOWN // max(1, classes))
    rows = [members[:each] for members in learned.members(classes)]
    found = torch.cat(rows)[:SHOWN] if any(len(part) for part in rows) else torch.arange(SHOWN)
    return found[found < len(learned.images)]
