"""SimCLR: two augmented views of an image attract, all other views of the batch repel.

Source: Chen et al. 2020 (equation 1); optimiser, batch and projection head as in the SAS release
(Adam, learning rate 1e-3, weight decay 1e-6, temperature 0.5, head d -> d -> 128 with batch norm).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from winnow.errors import UserError
from winnow.registry import Params, plugin
from winnow.train.engine.options import AugmentParams, Precision

if TYPE_CHECKING:
    from winnow.train.engine.task import Task


class SimCLRParams(Params):
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-6, ge=0)
    temperature: float = Field(default=0.5, gt=0)
    projection: int = Field(default=128, ge=2)
    cosine: bool = False
    precision: Precision = "auto"
    augment: AugmentParams = AugmentParams()


@plugin(params=SimCLRParams, source="Chen et al. 2020, arXiv 2002.05709")
def train(params: SimCLRParams, task: Task) -> dict[str, str]:
    """Train encoder and projection head; writes `model.safetensors` and `history.parquet`.

    Returns facts for the provenance: the precision that was used.
    """
    import torch

    from winnow.train.engine.augment import build_augmentation
    from winnow.train.engine.contrastive import build_contrastive, save_trained
    from winnow.train.engine.device import autocast_dtype
    from winnow.train.engine.loop import Loop, Passes, Schedule
    from winnow.train.engine.losses import nt_xent
    from winnow.train.engine.parallel import is_first, spread
    from winnow.train.engine.task import normalise

    if task.weights is not None:
        raise UserError(
            f"{task.label}: trainer simclr: its loss takes no weights; choose a method without them"
        )
    model = build_contrastive(task, params.projection)
    forward = spread(model)
    dtype = autocast_dtype(params.precision, task.device)
    augment = build_augmentation(params.augment, task.channels, task.size)

    def step_loss(rows: torch.Tensor, step: int) -> torch.Tensor:
        images = task.pixels[task.rows[rows]]
        with torch.autocast(task.device.type, enabled=False):
            views = normalise(augment(torch.cat([images, images]).float().div_(255)), task.mean, task.std)
        projected = forward(views.contiguous(memory_format=torch.channels_last))
        first, second = projected.chunk(2)
        return nt_xent(first, second, params.temperature)

    loop = Loop(
        model=model,
        optimiser=torch.optim.Adam(model.parameters(), lr=params.lr, weight_decay=params.weight_decay),
        schedule=Schedule(params.lr, task.total_steps(drop_last=True), params.cosine),
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
