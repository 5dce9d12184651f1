"""What a trainer is given: data on the device, the rows to train on, seeds and places."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from winnow.data.lazy import ImageSource
from winnow.errors import UserError
from winnow.registry import Params, Plugin
from winnow.store import Cost
from winnow.train.engine.space import Space
from winnow.train.engine.synthetic import SyntheticSet


@dataclass(frozen=True)
class Task:
    """One repetition of a training job.

    images: (n, c, h, w) uint8, the whole pool, or where it stays in shards what decodes it. labels: (n,)
    int64, -1 where there is none. targets: (n, d) float32 that the model regresses on instead, or None.
    synthetic: a set to train on instead of the pool, or None. teacher: loads a trained model, in evaluation
    mode, whose answers are learned from, or None. rows: (m,) int64 positions of the subset in
    the pool, repeated where an example counts twice; with `rounds` above 1 they are that many subsets of
    equal size, one per epoch in turn. weights: (m,) float32, or None where all are 1. captions: returns the
    captions of each of the n examples. steps_as: number of examples whose epochs set the number of steps
    (equal-step training), or None. context: names the random draws of a proxy, so that it shares none with
    the models it selects for. heldout: returns the images, as `images`, of the splits that this model is
    measured on: none for a proxy, else the test split and a validation split if there is one. scoring: what
    that measuring costs, which counts as evaluation. whitening: see `Space`; None for trainers that cannot.
    """

    images: Tensor | ImageSource
    labels: Tensor
    rows: Tensor
    weights: Tensor | None
    captions: Callable[[], list[list[str]]]
    rounds: int
    mean: Tensor
    std: Tensor
    classes: int
    class_names: tuple[str, ...]
    model: Plugin
    model_params: Params
    epochs: int
    steps_as: int | None
    min_steps: int
    batch_size: int
    root_seed: int
    seed: int
    context: tuple[str | int, ...]
    device: torch.device
    checkpoint: Path
    out: Path
    label: str
    cost: Cost
    heldout: Callable[[], dict[str, Tensor]]
    scoring: Cost
    targets: Tensor | None = None
    synthetic: SyntheticSet | None = None
    teacher: Callable[[], nn.Module] | None = None
    whitening: tuple[Tensor, Tensor] | None = None

    @property
    def space(self) -> Space:
        """What this task's networks see of pixels, for trainers that can whiten them."""
        return Space(self.mean, self.std, self.whitening)

    def total_steps(self, drop_last: bool) -> int:
        """Return the number of optimiser steps: whole epochs, and as many as hold `min_steps`."""
        examples = len(self.rows) // self.rounds if self.steps_as is None else self.steps_as
        each = steps_per_epoch(examples, self.batch_size, drop_last)
        return each * max(self.epochs, math.ceil(self.min_steps / each))

    @property
    def pixels(self) -> Tensor:
        """The images in memory; a pool that stays in shards is a mistake of the suite."""
        if not isinstance(self.images, Tensor):
            raise UserError(
                f"{self.label}: the images of this dataset stay in shards, which only the trainer clip reads;"
                " name it in the suite, or give the dataset another reader."
            )
        return self.images

    @property
    def channels(self) -> int:
        return int(self.images.shape[1] if isinstance(self.images, Tensor) else self.images.shape[3])

    @property
    def size(self) -> int:
        return int(self.images.shape[2])


def steps_per_epoch(examples: int, batch_size: int, drop_last: bool) -> int:
    """Return the batches of one epoch; a set smaller than a batch is one batch.

    A single example that is left over joins the batch before it: batch norm needs two.
    """
    whole, rest = divmod(examples, batch_size)
    return max(1, whole if drop_last or rest < 2 else whole + 1)


def to_tensor(images: ImageSource, device: torch.device) -> Tensor:
    """Return (n, h, w, c) uint8 images as an (n, c, h, w) tensor on the device, channels last in memory."""
    return torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2)
