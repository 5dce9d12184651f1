"""The plain ConvNet of the distillation literature: (convolution, norm, ReLU, pooling) x depth.

Source: Gidaris and Komodakis 2018; Zhao et al. 2021 (width 128, depth 3, instance norm for 32 px). KRR-ST's
have batch norm, and each block twice the channels of the one before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from winnow.registry import Params, plugin

if TYPE_CHECKING:
    from torch import nn


class ConvNetParams(Params):
    """width: channels of the first block. growth: channels of each further one, as a multiple."""

    depth: int = Field(default=3, ge=1, le=5)
    width: int = Field(default=128, ge=4)
    norm: Literal["batch", "instance"] = "instance"
    # Left out of what names artefacts while it is 1, as it was before there was such a parameter.
    growth: int = Field(default=1, ge=1, le=4, exclude_if=lambda value: value == 1)


@plugin(params=ConvNetParams, source="Zhao et al. 2021, arXiv 2006.05929")
def build(params: ConvNetParams, channels: int, size: int) -> nn.Module:
    """Return the network without its classifier; features are as wide as the last block's planes, flat."""
    from winnow.models.engine.blocks import plain_stages

    widths = [params.width * params.growth**block for block in range(params.depth)]
    return plain_stages(channels, size, widths, params.norm)
