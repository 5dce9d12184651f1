"""Parameter groups that trainers share. Imports no torch: the planner reads them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from winnow.registry import Params

Precision = Literal["auto", "bf16", "fp32"]
Templates = Annotated[tuple[Annotated[str, Field(pattern=r"\{\}")], ...], Field(min_length=1)]
TEMPLATES = ("{}", "a photo of a {}.")
"""Prompts, with {} where the name of a class goes."""

Names = Literal["dataset", "imagenet"]
"""Where class names come from: the dataset, or open_clip's list of the 1,000 of ImageNet."""

TrainedOn = Literal["pool", "clean"]
"""What a proxy is trained on: what methods choose from, or clean pairs: other data, or what was held out."""


class AugmentParams(Params):
    """SimCLR's augmentation (Chen et al. 2020, appendix A); zero switches a part off.

    colour is the strength of the distortion; rotation is in degrees and brings shifts of 10 %.
    """

    crop_min: float = Field(default=0.2, gt=0, le=1)
    flip: bool = True
    colour: float = Field(default=0.5, ge=0, le=1)
    greyscale: float = Field(default=0.2, ge=0, le=1)
    rotation: float = Field(default=0.0, ge=0, le=180)


class ViewParams(Params):
    """How images become views, and at what precision these are seen."""

    precision: Precision = "auto"
    augment: AugmentParams = AugmentParams()


TRANSFORMS = ("color", "crop", "cutout", "flip", "scale", "rotate")
"""What differentiable augmentation (DSA) may do to a batch."""


def known_strategy(names: str) -> str:
    """Return a strategy of differentiable augmentation, or refuse it with what is accepted."""
    if names and not set(names.split("_")) <= set(TRANSFORMS):
        raise ValueError(f"accepted: '', or some of {'_'.join(TRANSFORMS)} joined by _")
    return names


Strategy = Annotated[str, AfterValidator(known_strategy)]
"""Some of `TRANSFORMS`, joined by _, or nothing."""


class RecipeParams(Params):
    """How a network is trained on a distilled set. Defaults: the evaluation of DSA and DM (Zhao et al.).

    schedule: `step` divides the rate by ten after half of the run. temperature: of soft labels given as
    logits or by a teacher. cutmix: both parameters of the beta distribution that shares are drawn from, for
    images that are patched into others after the augmentation; 0 for none.
    """

    optimiser: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["step", "cosine", "constant"] = "step"
    augment: Strategy = "_".join(TRANSFORMS)
    temperature: float = Field(default=1.0, gt=0)
    cutmix: float = Field(default=0.0, ge=0)
    precision: Precision = "auto"
