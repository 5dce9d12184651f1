"""Expert trajectories: networks trained on the real data, with their weights after every epoch.

What trajectory matching imitates. Each expert's weights are kept before training and after each epoch,
copied: a copy by reference, as released codes make on processors, would hold the last weights in every
place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.train.engine.options import RecipeParams

if TYPE_CHECKING:
    from winnow.train.engine.task import Task


class ExpertsParams(RecipeParams):
    """count: experts that one job trains, one after another. rho, alpha: of adaptive GSAM, whose flat
    minima FTD follows; rho 0 is plain SGD. Defaults: those of MTT's buffers.
    """

    count: int = Field(default=1, ge=1, le=1000)
    rho: float = Field(default=0.0, ge=0)
    alpha: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["step", "cosine", "constant"] = "constant"


def needs(_: Params) -> Signals:
    return {"trajectories": {}, "targets": {}, "whitening": {}}


@plugin(params=ExpertsParams, needs=needs, source="Cazenavette et al. 2022, arXiv 2203.11932, section 3.1")
def train(params: ExpertsParams, task: Task) -> dict[str, object]:
    """Train `count` experts; writes `expert_000.safetensors`, ... with `weights` (epochs + 1, p) float32.

    Returns facts for the provenance: precision, and the loss of each expert at its last step.
    """
    import torch

    from winnow.errors import UserError
    from winnow.train.engine.classifier import build_classifier
    from winnow.train.engine.device import autocast_dtype
    from winnow.train.engine.loop import Passes
    from winnow.train.engine.recipe import training
    from winnow.train.engine.sets import examples_of
    from winnow.train.engine.sharpness import SAM
    from winnow.train.engine.trajectory import Trajectory

    examples, losses = examples_of(task), []
    outputs = None if examples.targets is None else examples.targets.shape[1]
    steps = task.total_steps(drop_last=False)
    for number in range(params.count):
        model = build_classifier(task, outputs, number)
        if any(True for _ in model.buffers()):
            raise UserError(
                f"{task.label}: {task.model.name} keeps running statistics, which a trajectory of weights"
                " does not have; give `experts` and `training` a model without batch norm (norm: instance)."
            )
        passes = replace(Passes.of(task, drop_last=False), context=(*task.context, number))
        kept = Trajectory(model, steps, passes.per_epoch)
        loop = training(
            model,
            examples,
            params,
            passes,
            steps,
            task.checkpoint.with_name(f"{task.checkpoint.stem}-{number}.safetensors"),
            f"{task.label}, expert {number + 1} of {params.count}",
            extras={"trajectory": kept.weights},
            after_step=kept.after_step,
        )
        if params.rho:
            loop.optimiser = SAM(loop.optimiser, model, params.rho, adaptive=True, alpha=params.alpha)
        losses.append(float(loop.run()[-1, 0]))
        kept.save(task.out / f"expert_{number:03d}.safetensors")
        task.cost.wall_s += loop.carried["wall_s"]
        task.cost.cpu_s += loop.carried["cpu_s"]
    dtype = autocast_dtype(params.precision, task.device)
    return {"precision_used": str(dtype or torch.float32).removeprefix("torch."), "last_losses": losses}
