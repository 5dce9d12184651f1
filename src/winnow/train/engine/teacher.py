"""A trained classifier whose answers others learn from.

Apart from `load_trained`, which knows models of text too: trainings do not depend on what those need.
"""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open

from winnow import registry
from winnow.data.dataset import Dataset
from winnow.errors import UserError
from winnow.plan.specs import TrainSpec
from winnow.store import read_json, verified
from winnow.train.engine.classifier import Classifier, load_classifier


def load_teacher(folder: Path, seed: int, data: Dataset) -> Classifier:
    """Load one repetition's classifier of a training artefact, in evaluation mode; its weights stay still.

    Raises `UserError` for a model without classes.
    """
    spec = TrainSpec.model_validate(read_json(verified(folder, "spec.json")))
    with safe_open(verified(folder, f"s{seed}/model.safetensors"), framework="pt") as file:
        has_classes = "head.weight" in set(file.keys())
    if not has_classes:
        raise UserError(
            f"{folder}: predicts no classes, which a teacher has to; give `proxy` of the suite the trainer"
            " supervised, or leave out the arms that ask a teacher"
        )
    model = registry.load("models", spec.model.name, f"{folder}/spec.json: model.name")
    size, _, channels = data.shape
    params = model.params(**spec.model.params)
    return load_classifier(folder, seed, model, params, channels, size).requires_grad_(False)
