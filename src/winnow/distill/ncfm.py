"""NCFM: features of synthetic and of real images have the same characteristic function, class by class.

They are compared at random frequencies, in networks between an expert's first and last weights, and a
trained one has to classify the synthetic images rightly. `paper`: a small network is trained against the
images to scale the frequencies to where the two differ most. `released`: the configurations that were
published leave it out, and frequencies are standard normal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.train.engine.options import Precision, Strategy

if TYPE_CHECKING:
    from winnow.distill.engine.learned import Distilled
    from winnow.distill.engine.view import DistillView


class NCFMParams(Params):
    """lr_images: of AdamW. The published rate is 0.001 (0.01, and a factor of 0.1 for Adam) for pixels in
    [0, 1]; of images as networks see them a step is as long at 0.001 over the deviation of a channel, about
    0.004. As in the released code, pixels are clamped after every step, and the rates halved where the loss
    stalls. batch_real: real images per class and iteration. factor: each synthetic image
    holds factor^2 small ones. calibration: weight of the trained network's cross-entropy. sampler: whether
    the scales of frequencies are learned, at rate `lr_sampler`.
    """

    iterations: int = Field(default=20_000, ge=1)
    lr_images: float = Field(default=0.004, gt=0)
    lr_sampler: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    batch_real: int = Field(default=1024, ge=1)
    frequencies: int = Field(default=4096, ge=1)
    calibration: float = Field(default=1.0, ge=0)
    factor: int = Field(default=2, ge=1, le=8)
    sampler: bool = True
    augment: Strategy = "color_crop_cutout"
    precision: Precision = "auto"


def needs(_: Params) -> Signals:
    return {"experts": {}}


@plugin(
    params=NCFMParams,
    variants={"paper": {}, "released": {"sampler": False}},
    needs=needs,
    source="Wang et al. 2025, arXiv 2502.20653 (CVPR 2025), equations 3 to 8",
)
def distill(params: NCFMParams, view: DistillView) -> Distilled:
    """Return the set after the last iteration."""
    from winnow.distill.engine.characteristic import match_characteristic

    return match_characteristic(params, view)
