"""SRe2L: images that a trained teacher classifies as wanted, and whose statistics are those it has seen.

They start from noise and see no real image: the running means and variances of the teacher's batch norms
stand in for the data. One image of each class makes a batch. The published students learn from what the
teacher says while they train (the trainer distilled with `teacher`). The released code for CIFAR shifts
images only; larger ones are cropped and flipped too (`crop_min` below 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from winnow.registry import Params, Signals, plugin

if TYPE_CHECKING:
    from winnow.distill.engine.learned import Distilled
    from winnow.distill.engine.view import DistillView


class SRe2LParams(Params):
    """lr_images: of Adam (0.5, 0.9), falling as half a cosine. statistics: weight of the batch norms' part of
    the loss, in which the first one counts `first` times. shift: the most pixels that a batch is rolled by.
    """

    iterations: int = Field(default=1000, ge=1)
    lr_images: float = Field(default=0.25, gt=0)
    statistics: float = Field(default=0.01, ge=0)
    first: float = Field(default=10.0, ge=0)
    shift: int = Field(default=4, ge=0)
    crop_min: float = Field(default=1.0, gt=0, le=1)


def needs(_: Params) -> Signals:
    return {"model": {"learned": "labels"}}


@plugin(params=SRe2LParams, needs=needs, source="Yin et al. 2023, arXiv 2306.13092, section 3")
def distill(params: SRe2LParams, view: DistillView) -> Distilled:
    """Return the set after the last iteration."""
    from winnow.distill.engine.recovery import recover

    return recover(params, view)
