"""DATM: trajectory matching whose difficulty fits the size of the set, with soft labels that are learned.

Small sets follow early epochs, large ones late ones; the window grows over the run. Soft labels start from
the logits of experts on real images that they classify rightly, and are learned with the images. Losses
above 1 move nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from winnow.distill.engine.params import TrajectoryParams
from winnow.registry import Params, Signals, plugin

if TYPE_CHECKING:
    from winnow.distill.engine.learned import Distilled
    from winnow.distill.engine.view import DistillView


class DATMParams(TrajectoryParams):
    """The published settings of CIFAR-10 with 10 images per class."""

    iterations: int = Field(default=10_000, ge=1)
    student_steps: int = Field(default=80, ge=1)
    lr_images: float = Field(default=100.0, gt=0)
    lr_labels: float = Field(default=2.0, ge=0)
    momentum_labels: float | None = Field(default=0.9, ge=0, lt=1)
    labels: Literal["given", "experts"] = "experts"
    first_max_start: int | None = Field(default=10, ge=1)
    grow_until: int | None = Field(default=1000, ge=1)
    max_start: int = Field(default=20, ge=1)
    skip_above: float | None = Field(default=1.0, gt=0)


def needs(_: Params) -> Signals:
    return {"experts": {}}


@plugin(params=DATMParams, needs=needs, source="Guo et al. 2024, arXiv 2310.05773")
def distill(params: DATMParams, view: DistillView) -> Distilled:
    """Return the set after the last iteration; the released code takes the best on the test set."""
    from winnow.distill.engine.trajectories import match_trajectories

    return match_trajectories(params, view)
