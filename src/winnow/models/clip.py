"""Image towers of open_clip models: by the name of one of its configurations, or of one of ours.

A model plugin builds what maps images to features, so this is the image tower, with its projection into the
joint space. The trainer `clip` adds the text tower of the same configuration; any other trainer uses the
image tower alone, which gives supervised training on the same backbone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from winnow.registry import Params, plugin

if TYPE_CHECKING:
    from torch import nn


class ClipModelParams(Params):
    """architecture: `RN50`, `ViT-B-32`, ... of open_clip, or `tiny-vit` and `tiny-resnet` of this project.

    context: longest caption in tokens; None is the configuration's own.
    """

    architecture: str = "RN50"
    context: int | None = Field(default=None, ge=3)


@plugin(params=ClipModelParams, source="Radford et al. 2021, arXiv 2103.00020; open_clip")
def build(params: ClipModelParams, channels: int, size: int) -> nn.Module:
    """Return the image tower; features are as wide as the joint space."""
    from winnow.models.engine.towers import build_towers

    return build_towers(params.architecture, params.context, size).encoder
