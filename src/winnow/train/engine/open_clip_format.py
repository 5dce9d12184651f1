"""Trained towers as a folder that open_clip opens by `local-dir:<folder>`."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import open_clip
from safetensors.torch import save

from winnow.data.dataset import Dataset
from winnow.errors import UserError
from winnow.models.clip import ClipModelParams
from winnow.models.engine.towers import Towers
from winnow.plan.specs import TrainSpec
from winnow.store import read_json, verified, write_atomic
from winnow.train.engine.trained import load_trained


def export(artefact: Path, seed: int, out: Path) -> None:
    """Write `open_clip_config.json` and `open_clip_model.safetensors` of one repetition of a training.

    artefact: its folder in the store. Raises `UserError` unless the training was image-text.
    """
    spec = TrainSpec.model_validate(read_json(verified(artefact, "spec.json")))
    data = Dataset.open(artefact.parent.parent / spec.data)
    towers = load_trained(artefact, seed, data)
    if not isinstance(towers, Towers):
        raise UserError(f"{artefact}: not an image-text model; name a training by the trainer clip.")
    write_model(towers, spec, data, out)


def write_model(towers: Towers, spec: TrainSpec, data: Dataset, out: Path) -> None:
    """Write trained towers; spec: their training. data: what it was on, whose statistics they expect."""
    params = ClipModelParams(**spec.model.params)
    out.mkdir(parents=True, exist_ok=True)
    weights = {_name(name): value.contiguous() for name, value in towers.state_dict().items()}
    write_atomic(out / "open_clip_model.safetensors", save(weights))
    config = _config(params.architecture, params.context, data)
    write_atomic(out / "open_clip_config.json", json.dumps(config, indent=2).encode())


def _name(name: str) -> str:
    return name.removeprefix("encoder.")


def _config(architecture: str, context: int | None, data: Dataset) -> dict[str, Any]:
    model = copy.deepcopy(open_clip.get_model_config(architecture))
    model["vision_cfg"]["image_size"] = data.shape[0]
    if context is not None:
        model["text_cfg"]["context_length"] = context
    model["custom_text"] = True
    channels = 3 // len(data.mean)
    look = {"mean": list(data.mean) * channels, "std": list(data.std) * channels, "interpolation": "bicubic"}
    return {"model_cfg": model, "preprocess_cfg": look}
