"""Loading what a trainer saved: an encoder with its projection (contrastive), classifier or text tower."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open
from torch import nn

from winnow import registry
from winnow.data.dataset import Dataset
from winnow.plan.specs import TrainSpec
from winnow.store import read_json, verified
from winnow.train.engine.classifier import load_classifier
from winnow.train.engine.contrastive import load_contrastive


def load_trained(folder: Path, seed: int, data: Dataset) -> nn.Module:
    """Load one repetition's model of a training artefact, in evaluation mode; files are verified first.

    The module has `encoder`, and `projection`, `head` or `text`, whichever it was trained with.
    """
    spec = TrainSpec.model_validate(read_json(verified(folder, "spec.json")))
    network = registry.load("models", spec.model.name, f"{folder}/spec.json: model.name")
    params = network.params(**spec.model.params)
    size, _, channels = data.shape
    with safe_open(verified(folder, f"s{seed}/model.safetensors"), framework="pt") as file:
        names = set(file.keys())
    if "logit_scale" in names:
        from winnow.train.engine.image_text import load_towers  # open_clip takes seconds to import

        return load_towers(folder, seed, params, size)
    if "head.weight" in names:
        return load_classifier(folder, seed, network, params, channels, size)
    return load_contrastive(folder, seed, network, params, channels, size)
