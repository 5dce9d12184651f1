"""Training on two augmented views of each image: the loop of every self-supervised trainer of this kind."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from winnow.errors import UserError
from winnow.train.engine.augment import build_augmentation
from winnow.train.engine.contrastive import Contrastive, save_trained
from winnow.train.engine.device import autocast_dtype
from winnow.train.engine.loop import Loop, Passes, Schedule
from winnow.train.engine.options import ViewParams
from winnow.train.engine.parallel import is_first, spread
from winnow.train.engine.space import normalise
from winnow.train.engine.task import Task


def train_on_views(
    task: Task,
    params: ViewParams,
    model: Contrastive,
    optimiser: Callable[[nn.Module], torch.optim.Optimizer],
    schedule: Schedule,
    loss: Callable[[Tensor, Tensor], Tensor],
    second_view: nn.Module | None = None,
) -> dict[str, str]:
    """Minimise loss(first, second) of the projections (b, d) of two views; writes what `save_trained` does.

    Both views pass through the model as one batch, over which its batch norms take their statistics.
    optimiser: makes one for the model, whose batch norms have been replaced where processes share them.
    second_view: further augmentation of the second view. Returns facts for the provenance: the precision.
    """
    if task.weights is not None:
        raise UserError(f"{task.label}: its trainer's loss takes no weights; choose a method without them")
    forward = spread(model)
    dtype = autocast_dtype(params.precision, task.device)
    augment = build_augmentation(params.augment, task.channels, task.size)

    def step_loss(rows: Tensor, step: int) -> Tensor:
        images = task.pixels[task.rows[rows]]
        with torch.autocast(task.device.type, enabled=False):
            views = augment(torch.cat([images, images]).float().div_(255))
            if second_view is not None:
                first, second = views.chunk(2)
                views = torch.cat([first, second_view(second)])
            views = normalise(views, task.mean, task.std)
        projected = forward(views.contiguous(memory_format=torch.channels_last))
        with torch.autocast(task.device.type, enabled=False):
            first, second = projected.float().chunk(2)
            return loss(first, second)

    loop = Loop(
        model=model,
        optimiser=optimiser(model),
        schedule=schedule,
        step_loss=step_loss,
        passes=Passes.of(task, drop_last=True),
        device=task.device,
        dtype=dtype,
        checkpoint=task.checkpoint,
        label=task.label,
    )
    history = loop.run()
    if not is_first():
        return {}
    task.cost.wall_s += loop.carried["wall_s"]
    task.cost.cpu_s += loop.carried["cpu_s"]
    save_trained(task.out, model, history)
    return {"precision_used": str(dtype or torch.float32).removeprefix("torch.")}
