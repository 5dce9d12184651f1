"""Matching trajectories: students trained on the synthetic set are to arrive where experts arrived.

Source: Cazenavette et al. 2022, arXiv 2203.11932 (MTT); with regression on targets, arXiv 2410.02116
(MKDT); with soft labels and growing windows of epochs, Guo et al. 2024, arXiv 2310.05773 (DATM).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor
from torch.nn.utils import vector_to_parameters

from winnow.distill.engine.convnet_student import student_of
from winnow.distill.engine.learned import Distilled, LearnedSet, Optimiser, learn
from winnow.distill.engine.objective import Objective
from winnow.distill.engine.params import TrajectoryParams
from winnow.distill.engine.students import AutogradStudent, Student
from winnow.distill.engine.unroll import Mode, matching_loss
from winnow.distill.engine.view import DistillView
from winnow.errors import UserError
from winnow.train.engine.dsa import augment

BATCH = 512


def match_trajectories(params: TrajectoryParams, view: DistillView) -> Distilled:
    """Learn images, targets and step size, those with a rate; returns the set at the last iteration."""
    if params.experts == "first":
        view = replace(view, experts=view.experts[:1])
    _check(params, view)
    learned, view = _begin(params, view)
    student, mode, experts = _student(params, view), _mode(params), len(view.experts)

    def loss_of(iteration: int) -> Tensor:
        random = Generator().manual_seed(view.derive("order", iteration))
        expert = _draw(experts, random)
        first = params.min_start + _draw(latest(params, iteration) - params.min_start, random)
        start, target = view.epochs_of(expert, (first, first + params.expert_epochs))
        batches = batches_of(len(learned.images), params.batch_size, params.student_steps, random)
        images = [augment(learned.images[rows], params.augment, random) for rows in batches]
        targets = [learned.shares()[rows] for rows in batches]
        assert learned.step_size is not None
        loss = matching_loss(student, start, target, images, targets, learned.step_size, mode)
        if params.skip_above is not None and float(loss.detach()) > params.skip_above:
            # Without a gradient the optimiser leaves everything as it is, momentum included.
            return loss.detach() + torch.zeros((), device=loss.device, requires_grad=True)
        return loss

    rates = {"images": params.lr_images, "targets": params.lr_labels, "step_size": params.lr_step_size}
    own = {} if params.momentum_labels is None else {"targets": params.momentum_labels}
    return learn(
        view,
        learned,
        params.iterations,
        loss_of,
        {name: rate for name, rate in rates.items() if rate},
        Optimiser(momentum=params.momentum, own_momentum=own),
        soft=params.lr_labels > 0 or params.labels == "experts",
        average=params.average,
    )


def _begin(params: TrajectoryParams, view: DistillView) -> tuple[LearnedSet, DistillView]:
    if params.labels == "given":
        return LearnedSet.begin(view, params.init, params.step_size), view
    view, logits = softened(view)
    learned = LearnedSet.begin(view, params.init, params.step_size)
    learned.targets.data, learned.are_logits = logits, True
    return learned, view


def _student(params: TrajectoryParams, view: DistillView) -> Student:
    """Return the network as a student of labels or targets."""
    kind: Objective = "cross_entropy" if view.real.targets is None else "mse"
    network = view.network(0)
    return AutogradStudent(network, kind) if params.memory == "graph" else student_of(network, kind)


def _mode(params: TrajectoryParams) -> Mode:
    return "frozen" if params.gradient == "frozen" else params.memory


def _check(params: TrajectoryParams, view: DistillView) -> None:
    """Refuse, before any work, experts that are too few, too short or of another model, and labels that would
    be learned without staying shares of classes.
    """
    if not view.experts:
        raise UserError(f"{view.label}: no expert trajectories; give `experts` the trainer experts")
    last = max(params.max_start, params.first_max_start or 0) - 1 + params.expert_epochs
    for expert in range(len(view.experts)):
        size = len(view.epochs_of(expert, (last,))[0])
        if size != view.parameters:
            raise UserError(
                f"{view.experts[expert]}: experts have {size} weights, the trained model {view.parameters}. "
                "Give `experts` and `training` of the suite the same model."
            )
    if params.lr_labels and params.labels == "given" and view.real.targets is None:
        raise UserError(
            f"{view.label}: given labels are classes and cannot be learned; set `labels: experts`,"
            " or lr_labels: 0"
        )


def latest(params: TrajectoryParams, iteration: int) -> int:
    """Return the first epoch that no student starts from in an iteration: it grows evenly."""
    begin = params.max_start if params.first_max_start is None else params.first_max_start
    until = min(params.grow_until or params.iterations, params.iterations)
    done = min(1.0, iteration / max(1, until - 1))
    return round(begin + done * (params.max_start - begin))


@torch.no_grad()
def softened(view: DistillView) -> tuple[DistillView, Tensor]:
    """Return the view with other images to start from, and the logits of their soft labels, (m, classes).

    Source: Guo et al. 2024, arXiv 2310.05773, section 3.3: real images that experts classify rightly at
    their last epoch, as many of each class as before, with the mean logits of the experts that do.
    """
    if view.real.targets is not None:
        raise UserError(f"{view.label}: soft labels of experts need labels; remove `targets` from the suite")
    total, count = _right_answers(view)
    random, rows = Generator().manual_seed(view.derive("selection", "softened")), []
    wanted = torch.bincount(view.real.labels.cpu()[view.start], minlength=view.classes).tolist()
    for label, members in enumerate(view.members()):
        known = members[count[members, 0] > 0]
        if len(known) < wanted[label]:
            raise UserError(
                f"{view.label}: experts classify {len(known)} images of class {label} rightly, "
                f"{wanted[label]} are needed. Train the experts for longer."
            )
        order = torch.randperm(len(known), generator=random)[: wanted[label]]
        rows.append(known[order.to(known.device)])
    start = torch.cat(rows)
    return replace(view, start=start.cpu()), total[start] / count[start]


def _right_answers(view: DistillView) -> tuple[Tensor, Tensor]:
    """Return for every real image the sum of the logits that are right, (n, classes), and their number."""
    network, labels = view.network(0), view.real.labels
    total = torch.zeros(len(labels), view.outputs, device=view.device)
    count = torch.zeros(len(labels), 1, device=view.device)
    for expert in range(len(view.experts)):
        vector_to_parameters(view.last_of(expert), network.parameters())
        logits = torch.cat([network(part) for part in torch.split(view.real.images, BATCH)])
        right = (logits.argmax(1) == labels)[:, None]
        total, count = total + logits * right, count + right
    return total, count


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
