"""What a method of distillation is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from winnow.data.dataset import Dataset
from winnow.errors import UserError
from winnow.registry import Params, Plugin
from winnow.seeds import derive
from winnow.store import Cost
from winnow.train.engine.classifier import Classifier, assemble
from winnow.train.engine.recipe import Examples
from winnow.train.engine.trajectory import read_epochs, read_last


@dataclass(frozen=True)
class DistillView:
    """One repetition of a distillation.

    real: the pool as networks see it, (n, c, h, w) float32 on the device, with labels, -1 where there is
    none, and targets (n, d) if students regress on them. start: (m,) int64 positions in the pool of the
    real examples that the m synthetic ones start from. classes: how many. model: the network that they are
    made for. experts: files of trajectories, all of which are to be used. teachers: trained networks in
    evaluation mode, images to logits or, where students regress on targets, to these. bounds: what black
    and white pixels are to networks, (2, c), infinite where images are whitened. checkpoint: where progress
    is kept. cost: what a resumed run had spent before. data: where the real images are from.
    """

    real: Examples
    start: Tensor
    classes: int
    model: Plugin
    model_params: Params
    experts: tuple[Path, ...]
    root_seed: int
    seed: int
    device: torch.device
    checkpoint: Path
    label: str
    bounds: Tensor
    teachers: tuple[nn.Module, ...] = ()
    cost: Cost = field(default_factory=Cost)
    data: Dataset | None = None

    def derive(self, axis: str, *context: str | int) -> int:
        """Return a seed for one random axis of this repetition."""
        return derive(self.root_seed, axis, self.seed, "distill", *context)

    @property
    def outputs(self) -> int:
        """The width of a student's output: of the targets, or one per class."""
        return self.classes if self.real.targets is None else self.real.targets.shape[1]

    def network(self, number: int) -> Classifier:
        """Return a network with random weights, others for each number."""
        torch.manual_seed(self.derive("init", number))
        channels, size = self.real.images.shape[1:3]
        try:
            made = assemble(self.model, self.model_params, channels, size, self.outputs)
        except ValueError as error:
            raise UserError(f"{self.label}: model {self.model.name}: {error}") from error
        return made.to(self.device)

    def epochs_of(self, expert: int, epochs: tuple[int, ...]) -> list[Tensor]:
        """Return the weights (p,) of an expert after some epochs."""
        return [weights.to(self.device) for weights in read_epochs(self.experts[expert], epochs)]

    def last_of(self, expert: int) -> Tensor:
        """Return the weights (p,) that an expert ended with."""
        return read_last(self.experts[expert]).to(self.device)

    @cached_property
    def parameters(self) -> int:
        """The number of weights p of the network."""
        return sum(parameter.numel() for parameter in self.network(0).parameters())

    def clamp(self, images: Tensor) -> None:
        """Make what is darker than black or lighter than white black or white, in place."""
        low, high = (bound[:, None, None] for bound in self.bounds)
        images.clamp_(low, high)

    def check_factor(self, factor: int) -> None:
        """Refuse images that cannot be divided into factor x factor others."""
        size = self.real.images.shape[2]
        if size % factor:
            raise UserError(
                f"{self.label}: images of {size} pixels cannot hold {factor} x {factor} others; change"
                " `factor` in the suite"
            )

    def teacher(self) -> nn.Module:
        """Return the trained network that the method asks; its weights do not move."""
        (found,) = self.teachers
        return found.to(self.device).requires_grad_(False)

    def members(self) -> list[Tensor]:
        """Return the positions of each class in the pool; every example has to have a label."""
        if bool((self.real.labels < 0).any()):
            raise UserError(f"{self.label}: some examples have no label, which this method needs")
        return [(self.real.labels == label).nonzero().flatten() for label in range(self.classes)]
