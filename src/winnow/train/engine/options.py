"""Parameter groups that trainers share. Imports no torch: the planner reads them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from winnow.registry import Params

Precision = Literal["auto", "bf16", "fp32"]
Templates = Annotated[tuple[Annotated[str, Field(pattern=r"\{\}")], ...], Field(min_length=1)]
TEMPLATES = ("{}", "a photo of a {}.")
"""Prompts, with {} where the name of a class goes."""

Names = Literal["dataset", "imagenet"]
"""Where class names come from: the dataset, or open_clip's list of the 1,000 of ImageNet."""

TrainedOn = Literal["pool", "validation"]
"""What a proxy is trained on: what methods choose from, or the examples that were held out of it."""


class AugmentParams(Params):
    """SimCLR's augmentation (Chen et al. 2020, appendix A); zero switches a part off.

    colour is the strength of the distortion; rotation is in degrees and brings shifts of 10 %.
    """

    crop_min: float = Field(default=0.2, gt=0, le=1)
    flip: bool = True
    colour: float = Field(default=0.5, ge=0, le=1)
    greyscale: float = Field(default=0.2, ge=0, le=1)
    rotation: float = Field(default=0.0, ge=0, le=180)
