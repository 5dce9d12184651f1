"""MTT: students trained on the synthetic set arrive where experts trained on all data have arrived.

The step size of the students is learned too. `tesla` is the same with the gradient that TESLA computes, which
leaves out how each image changes the weights at which later gradients are taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from winnow.distill.engine.params import TrajectoryParams
from winnow.registry import Params, Signals, plugin

if TYPE_CHECKING:
    from winnow.distill.engine.learned import Distilled
    from winnow.distill.engine.view import DistillView


class MTTParams(TrajectoryParams):
    """The published settings of CIFAR-10 with 10 images per class, not whitened."""

    lr_images: float = Field(default=1000.0, gt=0)


def needs(_: Params) -> Signals:
    return {"experts": {}}


@plugin(params=MTTParams, needs=needs, source="Cazenavette et al. 2022, arXiv 2203.11932, algorithm 1")
def distill(params: MTTParams, view: DistillView) -> Distilled:
    """Return the set after the last iteration; the released code takes the best on the test set."""
    from winnow.distill.engine.trajectories import match_trajectories

    return match_trajectories(params, view)
