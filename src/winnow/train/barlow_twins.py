"""Barlow Twins: what two views of images say of each feature agrees, and no two features say the same.

Source: Zbontar et al. 2021, equations 1 and 2: sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2, C the
cross-correlation of the projections of two views over the batch. The paper's defaults are lambda 0.005 and
a projector of three layers (8192 wide); those of the optimiser, of the projector's width and of the second
view are solo-learn's for CIFAR (`scripts/pretrain/cifar/barlow.yaml`, 1000 epochs of batches of 256), whose
stem KRR-ST's teachers have. Unlike there, the projector's batch norms see both views as one batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from winnow.registry import plugin
from winnow.train.engine.options import ViewParams

if TYPE_CHECKING:
    import torch
    from torch import nn

    from winnow.train.engine.task import Task


class BarlowTwinsParams(ViewParams):
    """redundancy: lambda, the weight of what is not on the diagonal. scale: of the whole loss. projector:
    width of each layer. momentum, trust, clip: of LARS alone. warmup: epochs in which the rate rises.
    solarise: how often bright pixels of the second view are inverted.
    """

    redundancy: float = Field(default=0.005, ge=0)
    scale: float = Field(default=0.1, gt=0)
    projector: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (2048, 2048, 2048)
    optimiser: Literal["lars", "adam"] = "lars"
    lr: float = Field(default=0.3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    trust: float = Field(default=0.02, gt=0)
    clip: bool = True
    warmup: int = Field(default=10, ge=0)
    cosine: bool = True
    solarise: float = Field(default=0.2, ge=0, le=1)


@plugin(params=BarlowTwinsParams, source="Zbontar et al. 2021, arXiv 2103.03230")
def train(params: BarlowTwinsParams, task: Task) -> dict[str, str]:
    """Train encoder and projector; writes `model.safetensors` and `history.parquet`.

    Returns facts for the provenance: the precision that was used.
    """
    from winnow.train.engine.augment import solarisation
    from winnow.train.engine.contrastive import build_contrastive
    from winnow.train.engine.loop import Passes, Schedule
    from winnow.train.engine.losses import barlow_twins
    from winnow.train.engine.views import train_on_views

    warmup = params.warmup * Passes.of(task, drop_last=True).per_epoch
    return train_on_views(
        task,
        params,
        build_contrastive(task, params.projector, ends_normalised=False),
        lambda model: _optimiser(params, model),
        Schedule(params.lr, task.total_steps(drop_last=True), params.cosine, warmup),
        lambda first, second: params.scale * barlow_twins(first, second, params.redundancy),
        solarisation(params.solarise) if params.solarise else None,
    )


def _optimiser(params: BarlowTwinsParams, model: nn.Module) -> torch.optim.Optimizer:
    import torch

    from winnow.train.engine.lars import LARS

    weights, decay = model.parameters(), params.weight_decay
    if params.optimiser == "adam":
        return torch.optim.Adam(weights, lr=params.lr, weight_decay=decay)
    return LARS(weights, params.lr, params.momentum, decay, params.trust, params.clip)
