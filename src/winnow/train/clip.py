"""CLIP: the image and the caption of a pair attract, all other pairings of the batch repel.

Loss, models and tokens are open_clip's. The defaults are the recipe of the ClipCov release (AdamW, no decay
of gains, biases and scale, half a cosine after a warm-up, no augmentation), with the warm-up as a share of
the steps: the release's 10,000 steps are more than its smallest subset is trained for.

`parts` passes a batch through the towers in pieces without making the loss any smaller a contrast:
activations are computed again in the backward pass (the gradient is that of the whole batch; batch norm
sees pieces).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from winnow.errors import UserError
from winnow.registry import Params, Signals, plugin
from winnow.train.engine.options import AugmentParams, Precision, Templates

if TYPE_CHECKING:
    import torch

    from winnow.train.engine.task import Task


class ClipParams(Params):
    """warmup: share of the steps. parts: pieces that a batch is passed in. augment None: none.

    templates: prompts by which the trained model is scored as a classifier of the held-out splits; None: it
    is not. workers: processes that decode images which stay in shards, ahead of the step.
    """

    lr: float = Field(default=5e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    parts: int = Field(default=1, ge=1)
    precision: Precision = "auto"
    augment: AugmentParams | None = None
    templates: Templates | None = None
    workers: int = Field(default=4, ge=0)


def needs(_: ClipParams) -> Signals:
    return {"captions": {}}


@plugin(
    params=ClipParams,
    needs=needs,
    source="Radford et al. 2021, arXiv 2103.00020; ClipCov release, commit 25cc65f",
)
def train(params: ClipParams, task: Task) -> dict[str, str]:
    """Train both towers; writes `model.safetensors`, `history.parquet` and, with templates, the logits of
    each split that it is measured on, e.g. `test_logits.npy`: scaled similarities to the classes' prompts.

    Returns facts for the provenance: the precision that was used and, for images in shards, the share of the
    time for which the training waited for them.
    """
    import math

    import open_clip
    import torch

    from winnow.models.engine.towers import LARGEST_SCALE
    from winnow.store import clocked, save_array
    from winnow.train.engine.augment import build_augmentation
    from winnow.train.engine.contrastive import save_trained
    from winnow.train.engine.device import autocast_dtype
    from winnow.train.engine.image_text import decaying, new_towers, pairs_of, zero_shot_logits
    from winnow.train.engine.loop import Loop, Passes, Schedule
    from winnow.train.engine.parallel import is_first, spread
    from winnow.train.engine.space import normalise

    _check(params, task)
    model = new_towers(task, params.parts)
    forward = spread(model)
    dtype, contrast = autocast_dtype(params.precision, task.device), open_clip.ClipLoss()
    augment = build_augmentation(params.augment, task.channels, task.size) if params.augment else None
    passes, steps = Passes.of(task, drop_last=True), task.total_steps(drop_last=True)
    pairs = pairs_of(task, model, passes, steps, params.workers)

    def step_loss(rows: torch.Tensor, step: int) -> torch.Tensor:
        pixels, tokens = pairs.batch(rows, step)
        with torch.autocast(task.device.type, enabled=False):
            pixels = pixels.float().div_(255)
            images = normalise(augment(pixels) if augment else pixels, task.mean, task.std)
        encoded = forward(images.contiguous(memory_format=torch.channels_last), tokens)
        with torch.autocast(task.device.type, enabled=False):
            return contrast(encoded[:, 0], encoded[:, 1], model.logit_scale.exp())  # type: ignore[no-any-return]

    def bound_scale(step: int) -> None:
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(LARGEST_SCALE))

    groups = decaying(model, params.weight_decay)
    loop = Loop(
        model=model,
        optimiser=torch.optim.AdamW(groups, lr=params.lr, betas=params.betas, eps=params.eps, fused=True),
        schedule=Schedule(params.lr, steps, cosine=True, warmup=round(params.warmup * steps)),
        step_loss=step_loss,
        passes=passes,
        device=task.device,
        dtype=dtype,
        checkpoint=task.checkpoint,
        label=task.label,
        after_step=bound_scale,
    )
    with pairs:
        history = loop.run()
    if not is_first():
        return {}
    if params.templates:
        with clocked(task.scoring):
            for split, logits in zero_shot_logits(task, model, params.templates, dtype).items():
                save_array(task.out / f"{split}_logits.npy", logits)
    task.cost.wall_s += loop.carried["wall_s"]
    task.cost.cpu_s += loop.carried["cpu_s"]
    save_trained(task.out, model, history)
    return {"precision_used": str(dtype or torch.float32).removeprefix("torch."), **pairs.facts}


def _check(params: ClipParams, task: Task) -> None:
    if task.weights is not None:
        raise UserError(
            f"{task.label}: trainer clip: its loss takes no weights; choose a method without them"
        )
    if params.parts > task.batch_size // 2:
        raise UserError(
            f"{task.label}: trainer clip: parts: {params.parts} pieces of a batch of {task.batch_size} would"
            f" hold fewer than two pairs; accepted: 1 to {task.batch_size // 2}"
        )
