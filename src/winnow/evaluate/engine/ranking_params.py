"""How sets are ranked: the parameters that a ranking and the baselines beside it share. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from winnow.distill.engine.dd_ranking import RATES, WEIGHTS
from winnow.registry import Params

Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0, le=1)]


class ContestParams(Params):
    """Network, batch size and recipe are those of the arm's `training`; this is what differs.

    steps: of every training, that on the full data too unless `full_steps` says otherwise. rates: learning
    rates; every arm takes the one that is best on validation images. networks: per repetition; the first one
    tunes. soft_labels: train with them too, where a set has any. plain: train without augmentation too, for
    ARS.
    """

    steps: int = Field(default=1000, ge=1)
    full_steps: int | None = Field(default=None, ge=1)
    rates: Annotated[tuple[Rate, ...], Field(min_length=1)] = RATES
    networks: int = Field(default=1, ge=1)
    soft_labels: bool = True
    plain: bool = True


class RankingParams(ContestParams):
    """weight: of the improvement in LRS and of augmentation in ARS. weights: those of the sweep."""

    weight: Weight = 0.5
    weights: tuple[Weight, ...] = WEIGHTS
