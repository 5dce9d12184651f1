"""RDED: nothing is learned. Of random crops of real images those are kept that a teacher is surest of.

Each synthetic image is one crop (`factor` 1), or `factor` x `factor` small ones side by side. The labels are
those of the crops; the published students learn from what the teacher says while they train (the trainer
distilled with `teacher`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from winnow.registry import Params, Signals, plugin

if TYPE_CHECKING:
    from winnow.distill.engine.learned import Distilled
    from winnow.distill.engine.view import DistillView


class RDEDParams(Params):
    """candidates: real images of each class that are cropped, `crops` times each (published: 300 for CIFAR).

    crop_min: the least share of the area that a crop takes.
    """

    candidates: int = Field(default=300, ge=1)
    crops: int = Field(default=5, ge=1)
    crop_min: float = Field(default=0.08, gt=0, le=1)
    factor: int = Field(default=1, ge=1, le=8)


def needs(_: Params) -> Signals:
    return {"model": {"learned": "labels"}}


@plugin(params=RDEDParams, needs=needs, source="Sun et al. 2024, arXiv 2312.03526, section 4")
def distill(params: RDEDParams, view: DistillView) -> Distilled:
    """Return the set; its history has one row, the mean loss of the teacher on what was kept."""
    from winnow.distill.engine.crops import surest_crops

    return surest_crops(params, view)
