"""DC: synthetic images whose gradients, class by class, are those of real images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from winnow.distill.engine.params import GradientParams
from winnow.registry import plugin
from winnow.train.engine.options import Strategy

if TYPE_CHECKING:
    from winnow.distill.engine.learned import Distilled
    from winnow.distill.engine.view import DistillView


class DCParams(GradientParams):
    """The published settings for 10 images per class, but real examples to start from, as DSA has."""

    augment: Strategy = ""


@plugin(params=DCParams, source="Zhao et al. 2021, arXiv 2006.05929, algorithm 1")
def distill(params: DCParams, view: DistillView) -> Distilled:
    """Return the set after the last iteration."""
    from winnow.distill.engine.gradients import match_gradients

    return match_gradients(params, view)
