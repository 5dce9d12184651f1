"""FTD: trajectory matching with experts in flat minima, and the running average of the images.

The experts are trained by adaptive GSAM (give `experts` of the arm `rho: 0.01, alpha: 0.4`). The released
code tests the average on the network that was already trained on the last images; here every set gets a
fresh one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from winnow.distill.engine.params import TrajectoryParams
from winnow.registry import Params, Signals, plugin

if TYPE_CHECKING:
    from winnow.distill.engine.learned import Distilled
    from winnow.distill.engine.view import DistillView


class FTDParams(TrajectoryParams):
    lr_images: float = Field(default=1000.0, gt=0)
    average: float = Field(default=0.9995, ge=0, lt=1)


def needs(_: Params) -> Signals:
    return {"experts": {}}


@plugin(params=FTDParams, needs=needs, source="Du et al. 2023, arXiv 2211.11004")
def distill(params: FTDParams, view: DistillView) -> Distilled:
    """Return the average of the set over the iterations."""
    from winnow.distill.engine.trajectories import match_trajectories

    return match_trajectories(params, view)
