"""What a task trains on, as the network is shown it: a synthetic set, or real images of the pool."""

from __future__ import annotations

import torch

from winnow.errors import UserError
from winnow.train.engine.recipe import Examples
from winnow.train.engine.task import Task


def examples_of(task: Task, soft_labels: bool = True) -> Examples:
    """Return the images of a task with labels or targets, on its device.

    soft_labels: keep those of a synthetic set. Raises `UserError` where there is nothing to learn.
    """
    if task.weights is not None or task.rounds != 1:
        raise UserError(
            f"{task.label}: its trainer takes no weights and no rounds; choose a method without them"
        )
    if task.synthetic is not None:
        given = task.synthetic
        soft = given.soft if soft_labels else None
        return Examples(given.images, given.labels, soft, given.targets).to(task.device)
    with torch.no_grad():
        images = task.space(task.pixels[task.rows])
    labels = task.labels[task.rows]
    targets = None if task.targets is None else task.targets.to(task.device)[task.rows]
    if targets is None and bool((labels < 0).any()):
        raise UserError(
            f"{task.label}: some examples have no label; give `targets` in the suite, or another pool"
        )
    return Examples(images, labels, targets=targets)
