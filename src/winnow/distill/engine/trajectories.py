"""Matching trajectories: students trained on the synthetic set are to arrive where experts arrived.

Source: Cazenavette et al. 2022, arXiv 2203.11932 (MTT); with regression on targets, arXiv 2410.02116 (MKDT).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from winnow.distill.engine.convnet_student import student_of
from winnow.distill.engine.learned import Distilled, LearnedSet, learn
from winnow.distill.engine.objective import Objective
from winnow.distill.engine.params import TrajectoryParams
from winnow.distill.engine.students import AutogradStudent, Student
from winnow.distill.engine.unroll import Mode, matching_loss
from winnow.distill.engine.view import DistillView
from winnow.errors import UserError
from winnow.train.engine.dsa import augment


def match_trajectories(params: TrajectoryParams, view: DistillView) -> Distilled:
    """Learn images, targets and step size, those with a rate; returns the set at the last iteration."""
    learned = LearnedSet.begin(view, params, params.step_size)
    student = student_for(params, view)
    size = sum(parameter.numel() for parameter in view.network(0).parameters())
    experts = view.experts if params.experts == "all" else view.experts[:1]

    def loss_of(iteration: int) -> Tensor:
        random = Generator().manual_seed(view.derive("order", iteration))
        expert = _draw(len(experts), random)
        first = _draw(params.max_start, random)
        start, target = view.epochs_of(expert, (first, first + params.expert_epochs))
        if len(start) != size:
            raise UserError(
                f"{view.experts[expert]}: experts have {len(start)} weights, the trained model {size}. "
                "Give `experts` and `training` of the suite the same model."
            )
        batches = batches_of(len(learned.images), params.batch_size, params.student_steps, random)
        images = [augment(learned.images[rows], params.augment, random) for rows in batches]
        targets = [learned.targets[rows] for rows in batches]
        assert learned.step_size is not None
        mode: Mode = "graph" if params.memory == "graph" else "recursion"
        return matching_loss(student, start, target, images, targets, learned.step_size, _mode(params, mode))

    rates = {"images": params.lr_images, "targets": params.lr_labels, "step_size": params.lr_step_size}
    moved = {name: rate for name, rate in rates.items() if rate}
    return learn(view, params, learned, params.iterations, loss_of, moved, soft=params.lr_labels > 0)


def _mode(params: TrajectoryParams, exact: Mode) -> Mode:
    return exact if params.gradient == "exact" else "frozen"


def student_for(params: TrajectoryParams, view: DistillView) -> Student:
    """Return the network as a student of labels or targets."""
    kind: Objective = "cross_entropy" if view.real.targets is None else "mse"
    network = view.network(0)
    return AutogradStudent(network, kind) if params.memory == "graph" else student_of(network, kind)


def batches_of(count: int, batch_size: int | None, steps: int, random: Generator) -> list[Tensor]:
    """Return the rows of each step: the last part of a random order first, a new order when none is left."""
    found: list[Tensor] = []
    parts: list[Tensor] = []
    for _ in range(steps):
        if not parts:
            parts = list(torch.split(torch.randperm(count, generator=random), batch_size or count))
        found.append(parts.pop())
    return found


def _draw(below: int, random: Generator) -> int:
    return int(torch.randint(below, (1,), generator=random))
