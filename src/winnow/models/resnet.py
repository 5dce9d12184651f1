"""Torchvision's ResNets with the stem of small images: 3 x 3 convolution, no pooling.

ResNet-10 is one basic block per stage, as in the SAS release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from winnow.registry import Params, plugin

if TYPE_CHECKING:
    from torch import nn


class ResNetParams(Params):
    depth: Literal[10, 18, 50] = 18
    stem: Literal["cifar", "imagenet"] = "cifar"


@plugin(
    params=ResNetParams, source="He et al. 2016, arXiv 1512.03385; stem of Chen et al. 2020, appendix B.9"
)
def build(params: ResNetParams, channels: int, size: int) -> nn.Module:
    """Return the network without its classifier; features are 512 (depth 10, 18) or 2048 wide."""
    from torch import nn
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

    block, layers = {
        10: (BasicBlock, [1, 1, 1, 1]),
        18: (BasicBlock, [2, 2, 2, 2]),
        50: (Bottleneck, [3, 4, 6, 3]),
    }[params.depth]
    network: nn.Module = ResNet(block, layers)
    if params.stem == "cifar":
        network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    elif channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    network.fc = nn.Identity()
    return network
