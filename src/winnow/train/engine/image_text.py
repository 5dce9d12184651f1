"""What image-text training is made of: the two towers, captions as tokens, weights that decay."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from open_clip import SimpleTokenizer
from safetensors.torch import load_file
from torch import Tensor, nn

from winnow.data.lazy import ImageSource
from winnow.errors import UserError
from winnow.models.clip import ClipModelParams
from winnow.models.engine.towers import Towers, build_towers
from winnow.registry import Params
from winnow.seeds import derive
from winnow.stage import log
from winnow.store import verified
from winnow.train.engine.classifier import predict
from winnow.train.engine.features import BATCH
from winnow.train.engine.loop import Passes
from winnow.train.engine.parallel import is_first
from winnow.train.engine.stream import Stream
from winnow.train.engine.task import Task

LOOKED_AT = 1024
"""Examples whose captions are measured: reading all of a web-scale pool would take minutes."""

ENDS = 2
"""Tokens that mark where a text begins and ends."""


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


def share_cut(read: SimpleTokenizer, captions: Sequence[Sequence[str]], label: str) -> float:
    """Return the share of texts that are longer than the model reads, and log it if there are any.

    captions: those of each example; `LOOKED_AT` examples, evenly spread, stand for more.
    """
    rows = np.linspace(0, len(captions) - 1, min(LOOKED_AT, len(captions))).astype(int)
    lengths = np.array([len(read.encode(text)) + ENDS for row in rows for text in captions[row]])
    context = int(read.context_length)
    share = float((lengths > context).mean()) if len(lengths) else 0.0
    if share and is_first():
        log(
            f"{label}: warning: {share:.1%} of {len(lengths)} captions looked at are cut: the model reads"
            f" {context} tokens, the longest has {lengths.max()}. In the suite, `model: {{name: clip, params:"
            f" {{context: {lengths.max()}}}}}` reads it whole."
        )
    return share


class Pairs(contextlib.AbstractContextManager["Pairs"]):
    """Images (b, c, h, w) uint8 and tokens (b, length) int64 of the rows of a step.

    Of an image with several captions each step draws one.
    """

    def __init__(self, task: Task, towers: Towers) -> None:
        captions = task.captions()
        self.task = task
        self.facts = {"captions_cut": f"{share_cut(towers.read, captions, task.label):.3f}"}
        self.tokens = towers.tokens([text for own in captions for text in own]).to(task.device)
        self.counts = torch.tensor([len(own) for own in captions], device=task.device)
        self.starts = self.counts.cumsum(0) - self.counts
        self.draws = bool((self.counts > 1).any())

    def batch(self, rows: Tensor, step: int) -> tuple[Tensor, Tensor]:
        chosen = self.task.rows[rows]
        place = self.starts[chosen]
        if self.draws:
            place += (torch.rand(len(chosen), device=place.device) * self.counts[chosen]).long()
        return self.task.pixels[chosen], self.tokens[place].long()

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


class ShardPairs(Pairs):
    """The same of images that stay in shards: decoded by other processes ahead of the step.

    The stream begins at the step that is asked for first, which after a resume is not step 0.
    """

    def __init__(self, task: Task, towers: Towers, passes: Passes, steps: int, workers: int) -> None:
        self.task, self.read, self.passes, self.steps, self.workers = (
            task,
            towers.read,
            passes,
            steps,
            workers,
        )
        self.stream: Stream | None = None
        self.facts: dict[str, str] = {}

    def batch(self, rows: Tensor, step: int) -> tuple[Tensor, Tensor]:
        if self.stream is None:
            task, source, captions = self.task, cast(ImageSource, self.task.images), self.task.captions()
            self.facts["captions_cut"] = f"{share_cut(self.read, captions, task.label):.3f}"
            self.stream = Stream(
                source, captions, task.rows, self.passes, step, self.steps,
                self.workers, self.read, task.device,
            )  # fmt: skip
        return self.stream.batch(step)

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        if self.stream is not None:
            self.stream.close()
            self.facts["waited_for_data"] = f"{self.stream.waited_share:.3f}"


def pairs_of(task: Task, towers: Towers, passes: Passes, steps: int, workers: int) -> Pairs:
    """Return what gives a training its batches; `workers` decode where the images are not in memory."""
    if isinstance(task.images, Tensor):
        return Pairs(task, towers)
    return ShardPairs(task, towers, passes, steps, workers)


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


@torch.no_grad()
def zero_shot_logits(
    task: Task, towers: Towers, templates: Sequence[str], dtype: torch.dtype | None
) -> dict[str, np.ndarray]:
    """Return the scaled similarities of held-out images to the classes, (n, classes) float32 per split."""
    prompts = torch.from_numpy(class_features(towers.eval(), task.class_names, templates)).to(task.device)
    scale, found = towers.logit_scale.exp().detach(), {}
    for split, images in task.heldout().items():
        encoded = predict(towers.encoder, images, task.space, dtype).to(task.device)
        found[split] = (scale * nn.functional.normalize(encoded, dim=1) @ prompts.T).cpu().numpy()
    return found


def decaying(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return the optimiser's groups: matrices and filters decay; gains, biases and the scale do not."""
    named = list(model.named_parameters())
    still = [p for name, p in named if p.ndim < 2 or "bn" in name or "ln" in name or "logit_scale" in name]
    known = {id(parameter) for parameter in still}
    rest = [p for _, p in named if id(p) not in known]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": still, "weight_decay": 0.0}]
