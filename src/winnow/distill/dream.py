"""DREAM: gradient matching with real images that stand for clusters of their class, instead of random ones.

Networks train on real images in between, gradients of convolutions are compared by their squared distance,
and each synthetic image holds several small ones (IDC, which DREAM builds on). The published rate, 0.005
for 10 images of a class and in proportion to their number, is for pixels in [0, 1]; for images as networks
see them, a step is as long at 0.005 over the variance of a channel, about 0.08. Networks are trained as in
IDC: with momentum, weight decay, and CutMix in half of the batches instead of cut-outs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from winnow.distill.engine.params import GradientParams
from winnow.registry import plugin
from winnow.train.engine.options import Strategy

if TYPE_CHECKING:
    from winnow.distill.engine.learned import Distilled
    from winnow.distill.engine.view import DistillView


class DreamParams(GradientParams):
    """The published settings of CIFAR-10 with 10 images per class."""

    iterations: int = Field(default=500, ge=1)
    rounds: int = Field(default=100, ge=1)
    epochs: int = Field(default=1, ge=0)
    lr_images: float = Field(default=0.08, gt=0)
    batch_train: int = Field(default=64, ge=1)
    batch_real: int = Field(default=64, ge=1)
    momentum_network: float = Field(default=0.9, ge=0, lt=1)
    decay_network: float = Field(default=5e-4, ge=0)
    cutmix: float = Field(default=0.5, ge=0, le=1)
    metric: Literal["cosine", "squared"] = "squared"
    factor: int = Field(default=2, ge=1, le=8)
    train_on: int | None = Field(default=2000, ge=1)
    cluster_every: int | None = Field(default=10, ge=1)
    augment: Strategy = "color_crop_cutout"


@plugin(params=DreamParams, source="Liu et al. 2023, arXiv 2302.14416; Kim et al. 2022, arXiv 2205.14959")
def distill(params: DreamParams, view: DistillView) -> Distilled:
    """Return the set after the last iteration."""
    from winnow.distill.engine.gradients import match_gradients

    return match_gradients(params, view)
