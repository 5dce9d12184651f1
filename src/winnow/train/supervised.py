"""Supervised training of encoder and linear classifier by cross-entropy.

The defaults are the published protocol of the coreset literature (DeepCore, Guo et al. 2022): SGD
with Nesterov momentum, half a cosine, crops with reflected borders and mirror images, and the loss
sum w l / sum w where examples have weights. Every batch counts, the last partial one of an epoch too.
What is saved and tested is the last epoch's model, or its running average with `ema`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from winnow.registry import Params, Signals, plugin
from winnow.train.engine.options import Precision

if TYPE_CHECKING:
    import torch
    from torch import nn

    from winnow.train.engine.loop import Schedule
    from winnow.train.engine.task import Task


class SupervisedParams(Params):
    """milestones and warmup are shares of the run; rho None is 0.05 for SAM and 0.5 for ASAM.

    until: with `error_slows` the run ends with the first epoch in which the training error falls by no more
    than `slow` times its largest fall in one epoch.
    """

    optimiser: Literal["sgd", "sam", "asam", "adamw"] = "sgd"
    lr: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(default=5e-4, ge=0)
    rho: float | None = Field(default=None, ge=0)
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    decay: float = Field(default=0.1, gt=0, le=1)
    warmup: float = Field(default=0.0, ge=0, lt=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    mixup: float = Field(default=0.0, ge=0)
    ema: float = Field(default=0.0, ge=0, lt=1)
    crop: int = Field(default=4, ge=0)
    flip: bool = True
    precision: Precision = "auto"
    deterministic: bool = False
    compile: bool = False
    record: bool = False
    until: Literal["end", "error_slows"] = "end"
    slow: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum above 0; set nesterov: false")
        if self.record and self.mixup:
            raise ValueError("record needs images of one example each; set mixup: 0")
        if self.until == "error_slows" and self.mixup:
            raise ValueError("until: error_slows needs images of one example each; set mixup: 0")
        return self


def needs(_: SupervisedParams) -> Signals:
    return {"labels": {}}


@plugin(params=SupervisedParams, needs=needs, source="Guo et al. 2022, arXiv 2204.08499 (DeepCore)")
def train(params: SupervisedParams, task: Task) -> dict[str, str]:
    """Train; writes `model.safetensors`, `history.parquet`, the logits of each split that it is measured on,
    e.g. `test_logits.npy`, and with record `dynamics/`.

    Returns facts for the provenance: the precision that was used, and the steps where they may be fewer.
    """
    import torch

    from winnow.store import clocked, save_array
    from winnow.train.engine.average import Average
    from winnow.train.engine.classifier import build_classifier, predict
    from winnow.train.engine.contrastive import save_trained
    from winnow.train.engine.crops import random_crops
    from winnow.train.engine.device import algorithms, autocast_dtype
    from winnow.train.engine.dynamics import Dynamics
    from winnow.train.engine.loop import Loop, Passes
    from winnow.train.engine.losses import cross_entropy, mixup
    from winnow.train.engine.parallel import is_first, spread
    from winnow.train.engine.space import normalise

    _check(params, task)
    model, dtype = build_classifier(task), autocast_dtype(params.precision, task.device)
    forward = spread(torch.compile(model) if params.compile else model)  # type: ignore[arg-type]
    passes, steps = Passes.of(task, drop_last=False), task.total_steps(drop_last=False)
    may_end = params.until == "error_slows"
    dynamics = Dynamics(passes, steps, task.device) if params.record or may_end else None
    average = Average(model, params.ema) if params.ema else None

    def step_loss(rows: torch.Tensor, step: int) -> torch.Tensor:
        chosen = task.rows[rows]
        labels, weights = task.labels[chosen], None if task.weights is None else task.weights[rows]
        with torch.autocast(task.device.type, enabled=False):
            pixels = random_crops(task.pixels, chosen, params.crop, params.flip)
            images = normalise(pixels.float().div_(255), task.mean, task.std)
        if params.mixup:
            images, partner, share = mixup(images, params.mixup)
        logits = forward(images.contiguous(memory_format=torch.channels_last))
        loss = cross_entropy(logits, labels, weights, params.label_smoothing)
        if params.mixup:
            weights = None if weights is None else weights[partner]
            other = cross_entropy(logits, labels[partner], weights, params.label_smoothing)
            loss = share * loss + (1 - share) * other
        if dynamics:
            dynamics.record(step, logits, labels)
        return loss

    loop = Loop(
        model=model,
        optimiser=_optimiser(params, model),
        schedule=_schedule(params, steps),
        step_loss=step_loss,
        passes=passes,
        device=task.device,
        dtype=dtype,
        checkpoint=task.checkpoint,
        label=task.label,
        extras=(dynamics.tensors() if dynamics else {}) | (average.tensors() if average else {}),
        after_step=average.update if average else None,
        is_over=(lambda epoch: dynamics.slows_at(epoch, params.slow)) if dynamics and may_end else None,
    )
    with algorithms(params.deterministic):
        history = loop.run()
        if not is_first():
            return {}
        if average:
            model.load_state_dict(average.values)
        with clocked(task.scoring):
            for split, images in task.heldout().items():
                logits = predict(model, images, task.space, dtype)
                save_array(task.out / f"{split}_logits.npy", logits.numpy())
    task.cost.wall_s += loop.carried["wall_s"]
    task.cost.cpu_s += loop.carried["cpu_s"]
    save_trained(task.out, model, history)
    if dynamics and params.record:
        dynamics.save(task.out / "dynamics", task.rows.cpu().numpy(), len(task.pixels))
    facts = {"precision_used": str(dtype or torch.float32).removeprefix("torch.")}
    return facts | ({"steps_taken": str(len(history))} if may_end else {})


def _check(params: SupervisedParams, task: Task) -> None:
    from winnow.errors import UserError

    if params.crop >= task.size:
        raise UserError(
            f"{task.label}: crop {params.crop} of trainer supervised is too large for images of "
            f"{task.size} pixels; accepted: 0 to {task.size - 1}"
        )
    if bool((task.labels[task.rows] < 0).any()):
        raise UserError(f"{task.label}: some examples have no label, which trainer supervised needs")


def _optimiser(params: SupervisedParams, model: nn.Module) -> torch.optim.Optimizer:
    import torch

    from winnow.train.engine.sharpness import SAM

    weights, decay = model.parameters(), params.weight_decay
    if params.optimiser == "adamw":
        return torch.optim.AdamW(weights, lr=params.lr, weight_decay=decay)
    sgd = torch.optim.SGD(
        weights, lr=params.lr, momentum=params.momentum, nesterov=params.nesterov, weight_decay=decay
    )
    if params.optimiser == "sgd":
        return sgd
    is_adaptive = params.optimiser == "asam"
    rho = params.rho if params.rho is not None else (0.5 if is_adaptive else 0.05)
    return SAM(sgd, model, rho, is_adaptive)


def _schedule(params: SupervisedParams, steps: int) -> Schedule:
    from winnow.train.engine.loop import Schedule

    milestones = tuple(round(share * steps) for share in params.milestones)
    return Schedule(
        peak=params.lr,
        steps=steps,
        cosine=params.schedule == "cosine",
        warmup=round(params.warmup * steps),
        milestones=milestones if params.schedule == "step" else (),
        decay=params.decay,
    )
