"""The plain ConvNet of the distillation literature: (convolution, norm, ReLU, pooling) x depth.

Source: Gidaris and Komodakis 2018; Zhao et al. 2021 (width 128, depth 3, instance norm for 32 px).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from winnow.registry import Params, plugin

if TYPE_CHECKING:
    from torch import nn


class ConvNetParams(Params):
    depth: int = Field(default=3, ge=1, le=5)
    width: int = Field(default=128, ge=4)
    norm: Literal["batch", "instance"] = "instance"


@plugin(params=ConvNetParams, source="Zhao et al. 2021, arXiv 2006.05929")
def build(params: ConvNetParams, channels: int, size: int) -> nn.Module:
    """Return the network without its classifier; features are width x (size / 2^depth)^2 wide."""
    from winnow.models.engine.blocks import plain_stages

    return plain_stages(channels, size, params.width, params.depth, params.norm)
