"""DM: synthetic images whose mean features, class by class, are those of real images in random networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from winnow.distill.engine.params import DistributionParams
from winnow.registry import plugin

if TYPE_CHECKING:
    from winnow.distill.engine.learned import Distilled
    from winnow.distill.engine.view import DistillView


@plugin(params=DistributionParams, source="Zhao and Bilen 2023, arXiv 2110.04181, algorithm 1")
def distill(params: DistributionParams, view: DistillView) -> Distilled:
    """Return the set after the last iteration."""
    from winnow.distill.engine.distributions import match_means

    return match_means(params, view)
