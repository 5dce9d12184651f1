"""No training: the model as it is initialised, the floor of every comparison of pre-training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from winnow.registry import Params, Signals, plugin

if TYPE_CHECKING:
    from winnow.train.engine.task import Task


def needs(_: Params) -> Signals:
    return {"labels": {}, "sets": {}, "whitening": {}}


@plugin(needs=needs)
def train(params: Params, task: Task) -> dict[str, object]:
    """Write `model.safetensors`, and a history without steps."""
    import torch

    from winnow.train.engine.classifier import build_classifier
    from winnow.train.engine.contrastive import save_trained

    save_trained(task.out, build_classifier(task), torch.zeros(0, 2))
    return {"precision_used": None}
