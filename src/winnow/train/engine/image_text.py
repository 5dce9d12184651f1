"""What image-text training is made of: the two towers, captions as tokens, weights that decay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from winnow.errors import UserError
from winnow.models.clip import ClipModelParams
from winnow.models.engine.towers import Towers, build_towers
from winnow.registry import Params
from winnow.seeds import derive
from winnow.store import verified
from winnow.train.engine.features import BATCH
from winnow.train.engine.task import Task


def clip_model(params: Params, where: str) -> ClipModelParams:
    """Return the parameters of the model `clip`; any other model has no text tower."""
    if not isinstance(params, ClipModelParams):
        raise UserError(f"{where}: image-text training needs two towers; set `model: {{name: clip}}`.")
    return params


def new_towers(task: Task, parts: int) -> Towers:
    """Return the model with initial weights that depend on (root seed, repetition, context) alone.

    parts: pieces that a training batch passes through in.
    """
    params = clip_model(task.model_params, task.label)
    torch.manual_seed(derive(task.root_seed, "init", task.seed, *task.context))
    towers = build_towers(params.architecture, params.context, task.size)
    towers.encoder.to(memory_format=torch.channels_last)
    towers.parts = parts
    return towers.to(task.device).train()


def load_towers(folder: Path, seed: int, params: Params, size: int) -> Towers:
    """Load one repetition's model in evaluation mode; the file is verified first."""
    own = clip_model(params, f"{folder}/spec.json")
    weights = load_file(verified(folder, f"s{seed}/model.safetensors"))
    towers = build_towers(own.architecture, own.context, size)
    towers.load_state_dict(weights)
    return towers.eval()


@torch.no_grad()
def text_features(towers: Towers, captions: Sequence[str]) -> np.ndarray:
    """Return unit-norm features of texts, (n, d) float32; the model is in evaluation mode."""
    device = towers.logit_scale.device
    parts = torch.split(towers.tokens(captions), BATCH)
    encoded = [towers.encode_texts(part.long().to(device)).cpu() for part in parts]
    return torch.cat(encoded).numpy()


def class_features(towers: Towers, classes: Sequence[str], templates: Sequence[str]) -> np.ndarray:
    """Return one unit-norm row per class, (classes, d): the mean of its prompts' features, at norm 1.

    templates: texts with {} where the name of the class goes (Radford et al. 2021, section 3.1.4).
    """
    prompts = [template.format(name) for name in classes for template in templates]
    means = text_features(towers, prompts).reshape(len(classes), len(templates), -1).mean(axis=1)
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))


def decaying(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return the optimiser's groups: matrices and filters decay; gains, biases and the scale do not."""
    named = list(model.named_parameters())
    still = [p for name, p in named if p.ndim < 2 or "bn" in name or "ln" in name or "logit_scale" in name]
    known = {id(parameter) for parameter in still}
    rest = [p for _, p in named if id(p) not in known]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": still, "weight_decay": 0.0}]
