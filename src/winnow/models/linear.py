"""A linear map, of full width or of a given rank: encoder of linear models in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from winnow.registry import Params, plugin

if TYPE_CHECKING:
    from torch import nn


class LinearParams(Params):
    """rank: width of the features; None is as many as there are inputs (for pairs: as the rank can be)."""

    rank: int | None = Field(default=None, ge=1)


@plugin(params=LinearParams, source="Xue et al. 2024, arXiv 2310.04971, section 3")
def build(params: LinearParams, channels: int, size: int) -> nn.Module:
    """Return the map of flattened pixels to `rank` features, without bias."""
    from torch import nn

    inputs = channels * size * size
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, params.rank or inputs, bias=False))
