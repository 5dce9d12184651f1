"""SimCLR: two augmented views of an image attract, all other views of the batch repel.

Source: Chen et al. 2020 (equation 1); optimiser, batch and projection head as in the SAS release
(Adam, learning rate 1e-3, weight decay 1e-6, temperature 0.5, head d -> d -> 128 with batch norm).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from winnow.registry import plugin
from winnow.train.engine.options import ViewParams

if TYPE_CHECKING:
    from winnow.train.engine.task import Task


class SimCLRParams(ViewParams):
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-6, ge=0)
    temperature: float = Field(default=0.5, gt=0)
    projection: int = Field(default=128, ge=2)
    cosine: bool = False


@plugin(params=SimCLRParams, source="Chen et al. 2020, arXiv 2002.05709")
def train(params: SimCLRParams, task: Task) -> dict[str, str]:
    """Train encoder and projection head; writes `model.safetensors` and `history.parquet`.

    Returns facts for the provenance: the precision that was used.
    """
    import torch

    from winnow.train.engine.contrastive import build_contrastive
    from winnow.train.engine.loop import Schedule
    from winnow.train.engine.losses import nt_xent
    from winnow.train.engine.views import train_on_views

    return train_on_views(
        task,
        params,
        build_contrastive(task, (None, params.projection)),
        lambda model: torch.optim.Adam(model.parameters(), lr=params.lr, weight_decay=params.weight_decay),
        Schedule(params.lr, task.total_steps(drop_last=True), params.cosine),
        lambda first, second: nt_xent(first, second, params.temperature),
    )
