"""Training on a distilled set, or on real images, by the recipe that distillation papers judge with.

The defaults are the evaluation of DSA and DM: SGD 0.01, momentum 0.9, weight decay 5e-4, a tenth of the
rate after half of the run, differentiable augmentation. With targets (of the set, or a signal for real
images) the network regresses on them by mean-squared error (MKDT, section 4), else it minimises
cross-entropy with the set's soft labels, or the hard ones, or with what a teacher (the scale's or the arm's
`proxy`) says of each image as it is shown, the way RDED and SRe2L are judged. What is saved and tested is
the network after its last step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from winnow.registry import Params, Signals, plugin
from winnow.train.engine.options import RecipeParams

if TYPE_CHECKING:
    from winnow.train.engine.task import Task


class DistilledParams(RecipeParams):
    """soft_labels: use the set's, where it has any. teacher: learn from a teacher instead. learned_rate:
    the step size that was learned with the set, where it has one and it is positive, instead of `lr`.
    """

    soft_labels: bool = True
    teacher: bool = False
    learned_rate: bool = False


def needs(params: Params) -> Signals:
    assert isinstance(params, DistilledParams)
    teacher = {"model": {"learned": "labels"}} if params.teacher else {}
    return {"labels": {}, "sets": {}, "targets": {}, "whitening": {}, **teacher}


@plugin(params=DistilledParams, needs=needs, source="Zhao and Bilen 2021, arXiv 2102.08259; arXiv 2410.02116")
def train(params: DistilledParams, task: Task) -> dict[str, object]:
    """Train; writes `model.safetensors`, `history.parquet` and, without targets, the logits of each split
    that it is measured on, e.g. `test_logits.npy`.

    Returns facts for the provenance: the precision and the learning rate that were used.
    """
    import torch

    from winnow.errors import UserError
    from winnow.store import clocked, save_array
    from winnow.train.engine.classifier import build_classifier, predict
    from winnow.train.engine.contrastive import save_trained
    from winnow.train.engine.device import autocast_dtype
    from winnow.train.engine.loop import Passes
    from winnow.train.engine.recipe import training
    from winnow.train.engine.sets import examples_of

    examples = examples_of(task, params.soft_labels)
    regresses = examples.targets is not None
    model = build_classifier(task, None if examples.targets is None else examples.targets.shape[1])
    learned = None if task.synthetic is None else task.synthetic.step_size
    if params.learned_rate and learned is not None and learned > 0:
        params = params.model_copy(update={"lr": learned})
    passes, steps = Passes.of(task, drop_last=False), task.total_steps(drop_last=False)
    teacher = None if task.teacher is None else task.teacher().to(task.device)
    if teacher is not None and regresses:
        raise UserError(f"{task.label}: a teacher of classes is asked, but there are `targets`; remove one")
    loop = training(model, examples, params, passes, steps, task.checkpoint, task.label, teacher)
    history = loop.run()
    dtype = autocast_dtype(params.precision, task.device)
    with clocked(task.scoring):
        for split, images in ({} if regresses else task.heldout()).items():
            logits = predict(model, images, task.space, dtype)
            save_array(task.out / f"{split}_logits.npy", logits.numpy())
    task.cost.wall_s += loop.carried["wall_s"]
    task.cost.cpu_s += loop.carried["cpu_s"]
    save_trained(task.out, model, history)
    used = str(dtype or torch.float32).removeprefix("torch.")
    return {"precision_used": used, "lr_used": params.lr}
