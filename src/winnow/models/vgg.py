"""VGG-11 for small images, as the distillation literature tests whether sets transfer.

Source: Simonyan and Zisserman 2015, configuration A, with a norm after each convolution and one linear
classifier (Zhao et al. 2021). Its five poolings need 32 pixels; images of 28 are padded by the first
convolution, as there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from winnow.registry import Params, plugin

if TYPE_CHECKING:
    from torch import nn

SMALLEST = 28


class VGGParams(Params):
    """width: channels of the first convolution; the last have eight times as many."""

    width: int = Field(default=64, ge=4)
    norm: Literal["batch", "instance"] = "instance"


@plugin(params=VGGParams, source="Zhao et al. 2021, arXiv 2006.05929; arXiv 1409.1556, configuration A")
def build(params: VGGParams, channels: int, size: int) -> nn.Module:
    """Return the network without its classifier; features are 8 x width x max(1, size / 32)^2 wide.

    Raises `UserError` for images of fewer than 28 pixels.
    """
    from torch import nn

    from winnow.errors import UserError
    from winnow.models.engine.blocks import norm_of

    if size < SMALLEST:
        raise UserError(f"model vgg: VGG-11 needs images of at least {SMALLEST} pixels, not {size}")
    layers: list[nn.Module] = []
    inputs, padding = channels, 3 if size < 32 else 1
    for factors in ((1,), (2,), (4, 4), (8, 8), (8, 8)):
        for factor in factors:
            outputs = factor * params.width
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=padding),
                norm_of(params.norm, outputs),
                nn.ReLU(),
            ]
            inputs, padding = outputs, 1
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten())
