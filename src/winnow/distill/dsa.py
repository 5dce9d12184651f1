"""DSA: gradient matching under an augmentation that real and synthetic images of a class share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from winnow.distill.engine.params import GradientParams
from winnow.registry import plugin

if TYPE_CHECKING:
    from winnow.distill.engine.learned import Distilled
    from winnow.distill.engine.view import DistillView


class DSAParams(GradientParams):
    """The published settings for 10 images per class."""


@plugin(params=DSAParams, source="Zhao and Bilen 2021, arXiv 2102.08259")
def distill(params: DSAParams, view: DistillView) -> Distilled:
    """Return the set after the last iteration."""
    from winnow.distill.engine.gradients import match_gradients

    return match_gradients(params, view)
