"""A small vision transformer for small images: torchvision's, on patches of a few pixels.

The defaults are the width and heads of ViT-Ti (Touvron et al. 2021) at half its depth.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from winnow.registry import Params, plugin

if TYPE_CHECKING:
    from torch import nn


class ViTParams(Params):
    """patch: side of a patch in pixels. The hidden layers are four times as wide as the tokens."""

    patch: int = Field(default=4, ge=1)
    depth: int = Field(default=6, ge=1)
    width: int = Field(default=192, ge=4)
    heads: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads: accepted: divisors of the width {self.width}")
        return self


@plugin(params=ViTParams, source="Dosovitskiy et al. 2021, arXiv 2010.11929; arXiv 2012.12877")
def build(params: ViTParams, channels: int, size: int) -> nn.Module:
    """Return the network without its classifier; features are the class token, `width` wide.

    Raises `UserError` for images that are no whole number of patches wide.
    """
    import torch
    from torch import nn
    from torchvision.models.vision_transformer import VisionTransformer

    from winnow.errors import UserError

    if size % params.patch:
        raise UserError(
            f"model vit: patch {params.patch} needs images of a multiple of its pixels, not {size}"
        )
    network: nn.Module = VisionTransformer(
        size, params.patch, params.depth, params.heads, params.width, 4 * params.width
    )
    if channels != 3:
        stem = nn.Conv2d(channels, params.width, params.patch, params.patch)
        nn.init.trunc_normal_(stem.weight, std=math.sqrt(1 / stem.weight[0].numel()))
        stem.bias = nn.Parameter(torch.zeros(params.width))
        network.conv_proj = stem
    network.heads = nn.Identity()
    return network
