"""Building blocks of the networks that torchvision does not have."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from winnow.errors import UserError
from winnow.models.engine import planes


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut; projection where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(hidden)) + self.shortcut(x))


def residual_stages(channels: int, width: int, blocks: int, stem_stride: int) -> nn.Sequential:
    """Return stem, three stages of `blocks` basic blocks (width, 2 width, 4 width) and mean pooling."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, stem_stride, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    inputs = width
    for stage in range(3):
        outputs = width * 2**stage
        for index in range(blocks):
            layers.append(BasicBlock(inputs, outputs, 2 if stage and not index else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class InstanceNorm(nn.GroupNorm):
    """Instance norm as the distillation literature has it: a group for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width)

    def forward(self, x: Tensor) -> Tensor:
        # In bfloat16 on a processor its backward pass takes many times as long with channels last, and the
        # pooling that follows with channels first.
        last = torch.channels_last
        if x.dtype != torch.bfloat16 or not x.is_contiguous(memory_format=last):
            return super().forward(x)
        return super().forward(x.contiguous()).contiguous(memory_format=last)


def norm_of(name: str, width: int) -> nn.Module:
    return nn.BatchNorm2d(width) if name == "batch" else InstanceNorm(width)


class PlainStages(nn.Sequential):
    """Convolution, norm, ReLU and pooling in turns, then flatten; in a block that has instance norm on a
    processor the last three are one operation, which takes half the time of a training step.
    """

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self.children())
        for convolution, norm, relu, pool in zip(*(layers[start:-1:4] for start in range(4)), strict=True):
            z = convolution(x)
            if isinstance(norm, InstanceNorm) and planes.suits(z):
                x = planes.pooled_by_loops(z, norm.weight, norm.bias)
            else:
                x = pool(relu(norm(z)))
        return x.flatten(1)


def plain_stages(channels: int, size: int, widths: Sequence[int], norm: str) -> PlainStages:
    """Return blocks of convolution, norm, ReLU and 2 x 2 mean pooling, of these channels, then flatten.

    Raises `UserError` where the images are halved more often than they can be.
    """
    depth = len(widths)
    if size < 2**depth:
        raise UserError(
            f"model convnet: depth {depth} needs images of at least {2**depth} pixels, not {size}"
        )
    layers: list[nn.Module] = []
    for before, width in pairwise([channels, *widths]):
        layers += [
            nn.Conv2d(before, width, 3, padding=1),
            norm_of(norm, width),
            nn.ReLU(),
            nn.AvgPool2d(2),
        ]
    return PlainStages(*layers, nn.Flatten())


@torch.no_grad()
def feature_width(network: nn.Module, channels: int, size: int) -> int:
    """Return the width of the features for square images of `size` pixels."""
    training = network.training
    width = network.eval()(torch.zeros(1, channels, size, size)).shape[1]
    network.train(training)
    return int(width)
