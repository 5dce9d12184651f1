"""Linear supervised learning on the images of pairs alone, the comparison of linear_mmcl.

`logistic` minimises mean cross-entropy + ridge / 2 |W|^2 (the bias is free), `min_norm` is the least-squares
fit of one-hot labels of least norm, which interpolates where n <= d, and `mean_difference` scores by the
class means of the centred images: what contrastive learning does with captions that name the class alone.

There is one solution and nothing random, so epochs and batch size have no effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from winnow.registry import Params, plugin

if TYPE_CHECKING:
    from winnow.train.engine.task import Task


class LinearSupervisedParams(Params):
    solver: Literal["logistic", "min_norm", "mean_difference"] = "logistic"
    ridge: float = Field(default=1e-4, gt=0)
    iterations: int = Field(default=1000, ge=1)


@plugin(params=LinearSupervisedParams, source="Xue et al. 2024, arXiv 2310.04971, section 4")
def train(params: LinearSupervisedParams, task: Task) -> dict[str, str]:
    """Solve; writes `model.safetensors` and the logits of each split that it is measured on."""
    import numpy as np

    from winnow.models.engine.logistic import fit_logistic
    from winnow.train.engine.linear import class_means, least_squares, rank_of, sample_of, save_linear

    sample = sample_of(task)
    rank_of(task, sample.images.shape[1])
    centre, bias = sample.images.mean(axis=0), np.zeros(sample.classes)
    if params.solver == "logistic":
        fitted = fit_logistic(
            sample.images - centre, sample.labels, sample.classes, params.ridge, params.iterations
        )
        weights, bias = fitted[:-1], fitted[-1]
    elif params.solver == "min_norm":
        weights = least_squares(sample.images, sample.labels, sample.classes)
        bias = np.bincount(sample.labels, minlength=sample.classes) / len(sample.labels)
    else:
        weights = class_means(sample.images - centre, sample.labels, sample.classes).T
    save_linear(
        task, {"image": weights, "bias": bias, "image_mean": centre}, lambda x: (x - centre) @ weights + bias
    )
    return {"precision_used": "float64"}
