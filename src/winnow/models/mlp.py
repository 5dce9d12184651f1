"""A multilayer perceptron on the raw pixels: the cheapest model, for demos and tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from winnow.registry import Params, plugin

if TYPE_CHECKING:
    from torch import nn


class MLPParams(Params):
    depth: int = Field(default=2, ge=1, le=8)
    width: int = Field(default=256, ge=2)


@plugin(params=MLPParams, source="Rumelhart et al. 1986")
def build(params: MLPParams, channels: int, size: int) -> nn.Module:
    """Return `depth` layers of linear map and ReLU, without the classifier; features are `width` wide."""
    from torch import nn

    layers: list[nn.Module] = [nn.Flatten()]
    inputs = channels * size * size
    for _ in range(params.depth):
        layers += [nn.Linear(inputs, params.width), nn.ReLU()]
        inputs = params.width
    return nn.Sequential(*layers)
