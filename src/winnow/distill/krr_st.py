"""KRR-ST: kernel ridge regression on the synthetic set predicts a self-supervised teacher on real images.

The kernel is that of features of networks that train on the synthetic set meanwhile. `released` never sets
a network's age back: once all have reached the limit, each is drawn anew every time it is used, and kernels
are of random networks only. Real images are shifted and mirrored in every iteration, as in the released code,
and the teacher says what is to be predicted of each as it is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from winnow.registry import Params, Signals, plugin

if TYPE_CHECKING:
    from winnow.distill.engine.learned import Distilled
    from winnow.distill.engine.view import DistillView


class KRRSTParams(Params):
    """lr_images: of AdamW for images and targets, falling on a line. batch_real: real images per iteration.
    ridge: share of the kernel's trace that is added to its diagonal. pool: networks that train, for at most
    `oldest` steps by SGD with momentum 0.9, rate `lr_network` and `decay_network`. reset: set a network's age
    to 0 when it is drawn anew. crop: by up to how many pixels a real image is shifted; flip: mirror every
    other one, by chance. Without either the targets are those of the images as they are.
    """

    iterations: int = Field(default=160_000, ge=1)
    lr_images: float = Field(default=1e-4, gt=0)
    batch_real: int = Field(default=1024, ge=1)
    ridge: float = Field(default=1e-6, gt=0)
    pool: int = Field(default=10, ge=1)
    oldest: int = Field(default=1000, ge=2)
    lr_network: float = Field(default=0.1, gt=0)
    decay_network: float = Field(default=1e-3, ge=0)
    reset: bool = True
    crop: int = Field(default=4, ge=0)
    flip: bool = True


def needs(params: Params) -> Signals:
    is_moved = isinstance(params, KRRSTParams) and bool(params.crop or params.flip)
    return {"targets": {}, "model": {}} if is_moved else {"targets": {}}


@plugin(
    params=KRRSTParams,
    variants={"paper": {}, "released": {"reset": False}},
    needs=needs,
    source="Lee et al. 2024, arXiv 2310.06511 (ICLR 2024), algorithm 1",
)
def distill(params: KRRSTParams, view: DistillView) -> Distilled:
    """Return the set after the last iteration, with its targets."""
    from winnow.distill.engine.kernel import regress

    return regress(params, view)
