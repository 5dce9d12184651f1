"""DM: synthetic images whose mean features, class by class, are those of real images in random networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from winnow.distill.engine.params import PixelParams
from winnow.registry import plugin

if TYPE_CHECKING:
    from winnow.distill.engine.learned import Distilled
    from winnow.distill.engine.view import DistillView


class DMParams(PixelParams):
    """batch_real: real images per class and iteration."""

    iterations: int = Field(default=20_000, ge=1)
    batch_real: int = Field(default=256, ge=1)


@plugin(params=DMParams, source="Zhao and Bilen 2023, arXiv 2110.04181, algorithm 1")
def distill(params: DMParams, view: DistillView) -> Distilled:
    """Return the set after the last iteration."""
    from winnow.distill.engine.distributions import match_means

    return match_means(params, params.batch_real, view)
