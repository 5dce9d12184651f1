"""MKDT: trajectory matching for self-supervised learning, by regression on a teacher's representations.

Experts and students regress on the targets, which are learned with the images and the step size. No
augmentation. `released` follows one expert only: the released code never loads the second file of
trajectories.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from winnow.distill.engine.params import TrajectoryParams
from winnow.registry import Params, Signals, plugin
from winnow.train.engine.options import Strategy

if TYPE_CHECKING:
    from winnow.distill.engine.learned import Distilled
    from winnow.distill.engine.view import DistillView


class MKDTParams(TrajectoryParams):
    """The published settings of CIFAR-10 and CIFAR-100 at 2 %."""

    lr_images: float = Field(default=1000.0, gt=0)
    lr_labels: float = Field(default=1.0, ge=0)
    lr_step_size: float = Field(default=1e-4, ge=0)
    step_size: float = Field(default=0.1, gt=0)
    student_steps: int = Field(default=40, ge=1)
    max_start: int = Field(default=2, ge=1)
    batch_size: int | None = Field(default=256, ge=1)
    augment: Strategy = ""


def needs(_: Params) -> Signals:
    return {"experts": {}, "targets": {}}


@plugin(
    params=MKDTParams,
    variants={"paper": {}, "released": {"experts": "first"}},
    needs=needs,
    source="arXiv 2410.02116 (ICLR 2025), section 4",
)
def distill(params: MKDTParams, view: DistillView) -> Distilled:
    """Return the set after the last iteration."""
    from winnow.distill.engine.trajectories import match_trajectories

    return match_trajectories(params, view)
