"""Small residual networks for small images (He et al. 2016, section 4.2: depth 6 n + 2).

The published stem keeps the full resolution; `stem_stride=2` halves it, for machines without a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from winnow.registry import Params, plugin

if TYPE_CHECKING:
    from torch import nn


class CifarResNetParams(Params):
    depth: Literal[8, 14, 20, 32] = 8
    width: int = Field(default=16, ge=4)
    stem_stride: Literal[1, 2] = 1


@plugin(params=CifarResNetParams, source="He et al. 2016, arXiv 1512.03385")
def build(params: CifarResNetParams, channels: int, size: int) -> nn.Module:
    """Return the network without its classifier; features are 4 x width wide."""
    from winnow.models.engine.blocks import residual_stages

    blocks = (params.depth - 2) // 6
    return residual_stages(channels, params.width, blocks, params.stem_stride)
