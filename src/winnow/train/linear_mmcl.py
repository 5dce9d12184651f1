"""Linear multimodal contrastive learning in closed form: a truncated SVD of the cross-covariance.

`winnow.train.engine.linear` states the loss. An image has the class whose prompt its features agree with
most: argmax over c of g_I(x) . g_T(prompt_c), both centred by the training means. `prompt` is the caption
that names the class alone, as in zero-shot classification, or the mean caption of the class. `rho` scales the
scores and changes no prediction. The rank is the model's. O(n d^2 + d^3), 8 n d bytes for each of three
arrays.

There is one solution and nothing random, so epochs and batch size have no effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from winnow.registry import Params, plugin

if TYPE_CHECKING:
    from winnow.train.engine.task import Task


class LinearMMCLParams(Params):
    rho: float = Field(default=1.0, gt=0)
    prompt: Literal["label", "mean"] = "label"


@plugin(params=LinearMMCLParams, source="Xue et al. 2024, arXiv 2310.04971, section 3")
def train(params: LinearMMCLParams, task: Task) -> dict[str, str]:
    """Solve; writes `model.safetensors` and the logits of each split that it is measured on."""
    from winnow.train.engine.linear import (
        class_means,
        contrastive_minimiser,
        cross_covariance,
        rank_of,
        sample_of,
        save_linear,
    )

    sample = sample_of(task)
    covariance = cross_covariance(sample.images, sample.captions)
    image, text = contrastive_minimiser(covariance, rank_of(task, min(covariance.shape)), params.rho)
    centre = sample.images.mean(axis=0)
    source = sample.prompts if params.prompt == "label" else sample.captions
    prompts = class_means(source - sample.captions.mean(axis=0), sample.labels, sample.classes)
    weights = {"image": image, "text": text, "image_mean": centre, "prompts": prompts}
    save_linear(task, weights, lambda x: (x - centre) @ image.T @ (prompts @ text.T).T)
    return {"precision_used": "float64"}
