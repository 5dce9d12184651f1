"""TESLA: trajectory matching in constant memory, by the gradient that its formula gives.

Each image's gradient is taken with the student's weights held still, so that only the sum of all steps is
kept. That is the exact gradient for one step alone; it departs from it as step size and number of steps
grow (`paper`, which is what the released code computes). `exact` is the derivative of the same loss, by a
recursion that keeps the students' weights: the same memory but for these, see `engine/unroll.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from winnow.distill.engine.params import TrajectoryParams
from winnow.registry import Params, Signals, plugin

if TYPE_CHECKING:
    from winnow.distill.engine.learned import Distilled
    from winnow.distill.engine.view import DistillView


class TeslaParams(TrajectoryParams):
    lr_images: float = Field(default=1000.0, gt=0)
    gradient: Literal["exact", "frozen"] = "frozen"


def needs(_: Params) -> Signals:
    return {"experts": {}}


@plugin(
    params=TeslaParams,
    variants={"paper": {}, "exact": {"gradient": "exact"}},
    needs=needs,
    source="Cui et al. 2023, arXiv 2211.10586, equation 7",
)
def distill(params: TeslaParams, view: DistillView) -> Distilled:
    """Return the set after the last iteration."""
    from winnow.distill.engine.trajectories import match_trajectories

    return match_trajectories(params, view)
