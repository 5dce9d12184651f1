"""How a set is judged: a fresh network, a fixed recipe, its last epoch.

Nothing is chosen on the test set: the learning rate is given or tuned on validation images that were cut from
the real training data, and what counts is the network after the last step.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2

from winnow.errors import UserError, one_of
from winnow.registry import Params, Plugin
from winnow.seeds import derive
from winnow.train.engine.classifier import BATCH, Classifier, assemble
from winnow.train.engine.device import autocast_dtype
from winnow.train.engine.dsa import augment
from winnow.train.engine.loop import Loop, Passes, Schedule
from winnow.train.engine.options import RecipeParams
from winnow.train.engine.task import steps_per_epoch

ROOT_SEED = 0


class Recipe(RecipeParams):
    """With the length of a training; steps: instead of epochs."""

    epochs: int = Field(default=1000, ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=256, ge=1)

    def total_steps(self, examples: int) -> int:
        each = steps_per_epoch(examples, self.batch_size, drop_last=False)
        return self.steps or self.epochs * each


@dataclass(frozen=True)
class Examples:
    """What a network is trained or tested on. images: (n, c, h, w) float32 as it is shown them. labels: (n,)
    int64. soft: (n, classes) float32, or None. targets: (n, d) float32 to regress on instead, or None.
    """

    images: Tensor
    labels: Tensor
    soft: Tensor | None = None
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def hard(self) -> Examples:
        return Examples(self.images, self.labels)

    def take(self, rows: Tensor) -> Examples:
        more = [None if part is None else part[rows] for part in (self.soft, self.targets)]
        return Examples(self.images[rows], self.labels[rows], *more)

    def to(self, device: torch.device) -> Examples:
        parts = (self.images, self.labels, self.soft, self.targets)
        return Examples(*[None if part is None else part.to(device) for part in parts])  # type: ignore[arg-type]


@dataclass(frozen=True)
class Network:
    """The architecture that is trained, and where."""

    model: Plugin
    params: Params
    classes: int
    device: torch.device
    root_seed: int = ROOT_SEED

    def fresh(self, channels: int, size: int, seed: int, context: str) -> Classifier:
        """Return a network with initial weights that depend on (seed, context) alone.

        Raises `UserError` where the architecture does not take such images.
        """
        torch.manual_seed(derive(self.root_seed, "init", seed, "rank", context))
        network = assemble(self.model, self.params, channels, size, self.classes)
        return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def fit(
    examples: Examples,
    recipe: Recipe,
    network: Network,
    seed: int,
    label: str,
    teacher: nn.Module | None = None,
) -> Classifier:
    """Train a fresh network; it comes back in evaluation mode, after its last step.

    seed: of initial weights, order and augmentation. teacher: see `training`. Raises `UserError` where the
    loss is not finite.
    """
    channels, size = examples.images.shape[1:3]
    model = network.fresh(channels, size, seed, "init").train()
    root = network.root_seed
    passes = Passes(len(examples), recipe.batch_size, root, seed, ("rank",), drop_last=False)
    steps = recipe.total_steps(len(examples))
    with tempfile.TemporaryDirectory(prefix="winnow-rank-") as folder:
        checkpoint = Path(folder) / "checkpoint.safetensors"
        training(model, examples.to(network.device), recipe, passes, steps, checkpoint, label, teacher).run()
    return model.eval()


def training(
    model: Classifier,
    examples: Examples,
    recipe: RecipeParams,
    passes: Passes,
    steps: int,
    checkpoint: Path,
    label: str,
    teacher: nn.Module | None = None,
    **more: Any,
) -> Loop:
    """Return the training of a network on examples that are where it is; `run` does it.

    teacher: what answers it learns from instead of labels, on the images that it is shown. more: of the
    loop's, such as `after_step`.
    """
    device, random = examples.images.device, torch.Generator()

    def step_loss(rows: Tensor, step: int) -> Tensor:
        random.manual_seed(passes.augmentation_seed(step))
        shown = examples.take(rows)
        with torch.autocast(device.type, enabled=False):
            images = augment(shown.images, recipe.augment, random)
            if recipe.cutmix and shown.targets is None:
                images, soft = _cut_and_mixed(images, shown, recipe.cutmix, model.head.out_features)
                shown = replace(shown, images=images, soft=soft)
        images = images.contiguous(memory_format=torch.channels_last)
        outputs = model(images)
        if teacher is not None:
            with torch.no_grad():
                taught = teacher(images).log_softmax(1)
            return _soft_loss(outputs, taught, recipe.temperature)
        if shown.targets is not None:
            return functional.mse_loss(outputs, shown.targets)
        if shown.soft is not None:
            return _soft_loss(outputs, shown.soft.clamp_min(1e-12).log(), recipe.temperature)
        return functional.cross_entropy(outputs, shown.labels)

    return Loop(
        model=model,
        optimiser=_optimiser(recipe, model),
        schedule=_schedule(recipe, steps),
        step_loss=step_loss,
        passes=passes,
        device=device,
        dtype=autocast_dtype(recipe.precision, device),
        checkpoint=checkpoint,
        label=label,
        **more,
    )


def _cut_and_mixed(images: Tensor, shown: Examples, share: float, classes: int) -> tuple[Tensor, Tensor]:
    """Return images with patches of others, and their labels (b, classes) in these shares."""
    labels = functional.one_hot(shown.labels, classes).float() if shown.soft is None else shown.soft
    mixed: tuple[Tensor, Tensor] = v2.CutMix(alpha=share, num_classes=classes)(images, labels)
    return mixed


def _soft_loss(logits: Tensor, logs: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy with soft labels, given as logarithms; a temperature softens both sides."""
    soft = (logs / temperature).softmax(1)
    return -(soft * (logits / temperature).log_softmax(1)).sum(1).mean() * temperature**2


def _optimiser(recipe: RecipeParams, model: Classifier) -> torch.optim.Optimizer:
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )


def _schedule(recipe: RecipeParams, steps: int) -> Schedule:
    milestones = (steps // 2 + 1,) if recipe.schedule == "step" else ()
    return Schedule(recipe.lr, steps, recipe.schedule == "cosine", milestones=milestones)


@torch.no_grad()
def logits_of(model: Classifier, images: Tensor, recipe: RecipeParams, device: torch.device) -> Tensor:
    """Return the logits (n, classes) float32, on the processor."""
    dtype = autocast_dtype(recipe.precision, device)
    found = []
    for batch in torch.split(images, BATCH):
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            shown = batch.to(device).contiguous(memory_format=torch.channels_last)
            found.append(model(shown).float().cpu())
    return torch.cat(found)


def accuracy(model: Classifier, test: Examples, recipe: Recipe, device: torch.device) -> float:
    """Return the share of images whose largest logit is their label's."""
    predicted = logits_of(model, test.images, recipe, device).argmax(1)
    return float((predicted == test.labels).double().mean())


def tuned(recipe: Recipe, rates: Sequence[float], score: Callable[[Recipe], float], label: str) -> Recipe:
    """Return the recipe with the learning rate that scores best on validation images.

    A rate that makes the training diverge scores 0. Of equal scores the smallest rate counts.
    """
    scores = {}
    for rate in sorted(rates):
        tried = recipe.model_copy(update={"lr": rate})
        try:
            scores[rate] = score(tried)
        except UserError:
            scores[rate] = 0.0
    if not any(scores.values()):
        raise UserError(f"{label}: every learning rate of {one_of(rates)} made the training diverge.")
    return recipe.model_copy(update={"lr": max(scores, key=lambda rate: (scores[rate], -rate))})
