"""Image-text training of `tiny-resnet` on 1,280 digits of 64 pixels in batches of 128, beside open_clip's
own trainer.

The peer is `open_clip_train`: its CSV dataset over PNG files, its transform, its DataLoader with as many
workers as cores, and `train_one_epoch`, with the same initial weights, optimiser, precision and number of
steps. Ours keeps the pool in memory as bytes and reads the captions once. Time is the median step, loading
included, after a first epoch; quality is the peer's mean loss of the last epoch over ours.
"""

from __future__ import annotations

import csv
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import open_clip
import torch
from open_clip_train import train as peer
from open_clip_train.data import get_data
from open_clip_train.params import parse_args
from open_clip_train.scheduler import cosine_lr
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

from benchmarks.comparison import Comparison, peak_gb
from winnow import registry
from winnow.models.engine.towers import Towers, build_towers
from winnow.store import Cost
from winnow.train.engine import image_text
from winnow.train.engine.device import autocast_dtype, pick_device
from winnow.train.engine.image_text import decaying
from winnow.train.engine.loop import Loop
from winnow.train.engine.task import Task, to_tensor

ARCHITECTURE, SIZE, BATCH, EPOCHS, COUNT, LR = "tiny-resnet", 64, 128, 3, 1280, 1e-3
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def pairs() -> tuple[np.ndarray, list[str]]:
    """Return (n, 64, 64, 3) uint8 images and their captions."""
    digits = load_digits()
    small = np.rint(digits.images[:COUNT] * (255 / 16)).astype(np.uint8)
    images = np.repeat(np.kron(small, np.ones((1, 8, 8), np.uint8))[..., None], 3, axis=3)
    return images, [
        f"a photo of the digit {NAMES[y]}, number {i}" for i, y in enumerate(digits.target[:COUNT])
    ]


class Released(nn.Module):
    """The towers as open_clip's trainer calls them: features and scale in a mapping."""

    def __init__(self, towers: Towers) -> None:
        super().__init__()
        self.towers, self.logit_scale = towers, towers.logit_scale

    def forward(self, images: torch.Tensor, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        image, text = self.towers(images, tokens).unbind(1)
        return {"image_features": image, "text_features": text, "logit_scale": self.logit_scale.exp()}


def theirs(
    towers: Towers, images: np.ndarray, captions: list[str], folder: Path
) -> tuple[list[float], float]:
    """Train by open_clip; returns the seconds of each step after the first epoch, and the last loss."""
    with (folder / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(["filepath", "title"])
        for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
            Image.fromarray(image).save(folder / f"{i}.png")
            table.writerow([folder / f"{i}.png", caption])
    device, precision = pick_device("auto"), "amp_bf16" if dtype() else "fp32"
    words = (
        f"--train-data {folder}/pairs.csv --dataset-type csv --batch-size {BATCH} --epochs {EPOCHS} --workers"
    )
    arguments = parse_args(
        [*words.split(), str(os.cpu_count()), "--precision", precision, "--log-every-n-steps", "1"]
    )
    changes = {
        "device": str(device),
        "rank": 0,
        "local_rank": 0,
        "world_size": 1,
        "distributed": False,
        "distill": False,
    }
    vars(arguments).update(changes, horovod=False, wandb=False)
    transform = open_clip.image_transform(SIZE, is_train=False, mean=(0.5,) * 3, std=(0.25,) * 3)
    data = get_data(arguments, (transform, transform), tokenizer=towers.read)
    optimiser = torch.optim.AdamW(decaying(towers, 0.1), lr=LR, fused=True)
    steps = EPOCHS * data["train"].dataloader.num_batches
    schedule = cosine_lr(optimiser, LR, 0, steps)
    seconds, losses = [], list[float]()
    own = open_clip.ClipLoss()

    def loss(**outputs: Any) -> dict[str, torch.Tensor]:
        found = own(**outputs)
        losses.append(found["contrastive_loss"].item())
        return found

    model = Released(towers).to(device)
    hook = model.register_forward_pre_hook(lambda *_: seconds.append(time.perf_counter()))
    for epoch in range(EPOCHS):
        peer.train_one_epoch(model, data, loss, epoch, optimiser, None, schedule, None, arguments)
    hook.remove()
    ends = [*seconds, time.perf_counter()]
    first = len(losses) // EPOCHS
    return list(np.diff(ends)[first:]), float(np.mean(losses[-first:]))


def ours(towers: Towers, images: np.ndarray, captions: list[str], folder: Path) -> tuple[list[float], float]:
    """Train by our trainer, with these initial weights; returns the same."""
    trainer, model = (registry.load(room, "clip", "benchmark") for room in ("train", "models"))
    device, ends, own = pick_device("auto"), list[float](), Loop._step

    def step(loop: Loop, number: int, rows: torch.Tensor) -> torch.Tensor:
        ends.append(time.perf_counter())
        return own(loop, number, rows)

    task = Task(
        images=to_tensor(images, device),
        labels=torch.zeros(COUNT, dtype=torch.int64),
        rows=torch.arange(COUNT).to(device),
        weights=None,
        captions=lambda: [[text] for text in captions],
        rounds=1,
        mean=torch.full((3,), 0.5, device=device),
        std=torch.full((3,), 0.25, device=device),
        classes=10,
        class_names=NAMES,
        model=model,
        model_params=model.params(architecture=ARCHITECTURE),
        epochs=EPOCHS,
        steps_as=None,
        min_steps=0,
        batch_size=BATCH,
        root_seed=0,
        seed=0,
        context=(),
        device=device,
        checkpoint=folder / "checkpoint",
        out=folder,
        label="benchmark",
        cost=Cost(),
        heldout=dict,
        scoring=Cost(),
    )
    same = mock.patch.object(image_text, "build_towers", return_value=towers)
    with (
        same,
        mock.patch.object(Loop, "_step", step),
        mock.patch.dict(os.environ, WINNOW_CHECKPOINT_SECONDS="9999"),
    ):
        trainer.function(trainer.params(lr=LR, warmup=0.0), task)
    import pandas as pd

    losses = pd.read_parquet(folder / "history.parquet")["loss"]
    first = len(losses) // EPOCHS
    return list(np.diff([*ends, time.perf_counter()])[first:-1]), float(losses[-first:].mean())


def dtype() -> torch.dtype | None:
    return autocast_dtype("auto", pick_device("auto"))


def fresh() -> Towers:
    torch.manual_seed(0)
    return build_towers(ARCHITECTURE, None, SIZE)


def run() -> Iterator[Comparison]:
    torch.set_num_threads(os.cpu_count() or 1)
    logging.disable(logging.INFO)
    images, captions = pairs()
    with tempfile.TemporaryDirectory() as folder:
        their_steps, their_loss = theirs(fresh(), images, captions, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        our_steps, our_loss = ours(fresh(), images, captions, Path(folder))
    mine, other = median(our_steps), median(their_steps)
    yield Comparison(
        name="clip/step",
        input=f"{ARCHITECTURE}, {SIZE} px, batch {BATCH}, {dtype() or 'float32'}: {BATCH / mine:.0f} pairs/s",
        n=COUNT,
        ours_s=mine,
        peer="open_clip_train",
        peer_s=other,
        ratio=other / mine,
        quality=their_loss / our_loss,
        quality_is="peer's loss over ours",
        peak_gb=peak_gb(),
    )
