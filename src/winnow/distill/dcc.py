"""DCC: gradient matching for the sum of all classes, so that what tells them apart counts too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from winnow.distill.engine.params import GradientParams
from winnow.registry import plugin

if TYPE_CHECKING:
    from winnow.distill.engine.learned import Distilled
    from winnow.distill.engine.view import DistillView


class DCCParams(GradientParams):
    """The published settings for 10 images per class."""

    together: bool = True
    warm_up: int = Field(default=10, ge=0)
    warm_up_iterations: int = Field(default=250, ge=0)


@plugin(params=DCCParams, source="Lee et al. 2022, arXiv 2202.02916")
def distill(params: DCCParams, view: DistillView) -> Distilled:
    """Return the set after the last iteration."""
    from winnow.distill.engine.gradients import match_gradients

    return match_gradients(params, view)
