"""Supervised training in batches of 128, beside a loop of the released kind: ResNet-18 (CIFAR stem), and the
ConvNet of the distillation literature, with instance norm.

The peer is what the released code of this field does: a DataLoader over pictures with torchvision's
transforms one image at a time, channels first, float32, SGD, `loss.item()` every step. The lines
`speed` and `convnet` compare the median time of a step, and the accuracy on held-out digits after the same
number of epochs from the same initial weights (mean of the repetitions; 16 pixels: both take any size).
`recording` is a small network with and without dynamics. `batches` is the preparation of batches alone.
`memory` is the ConvNet in a process that keeps the memory it frees, as jobs do; the lines above are without.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.comparison import Comparison, peak_gb, timed
from winnow import registry
from winnow.store import Cost
from winnow.train.engine.classifier import build_classifier
from winnow.train.engine.crops import random_crops
from winnow.train.engine.device import pick_device
from winnow.train.engine.loop import Loop
from winnow.train.engine.memory import keep_freed_memory
from winnow.train.engine.space import normalise
from winnow.train.engine.task import Task, to_tensor

BATCH, STEPS, LR, PADDING = 128, 9, 0.01, 2
REPETITIONS, EPOCHS, DIGITS = 3, 4, 1280
DEVICE = pick_device("auto")


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images (n, h, w, 3) that become PIL pictures and are transformed one at a time."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, flip: bool) -> None:
        self.images, self.labels = images, labels
        steps: list[Any] = [transforms.RandomCrop(images.shape[1], PADDING, padding_mode="reflect")]
        steps += [transforms.RandomHorizontalFlip()] if flip else []
        steps += [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.25,) * 3)]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def released_loop(model: nn.Module, data: Pictures, epochs: int, seed: int) -> list[float]:
    """Train the model in place; returns the seconds of each step, its share of the loading included."""
    loader = DataLoader(data, BATCH, shuffle=True, generator=torch.Generator().manual_seed(seed))
    optimiser = torch.optim.SGD(model.parameters(), LR, 0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * len(loader))
    criterion, seconds, losses = nn.CrossEntropyLoss(), [], []
    for _ in range(epochs):
        begun = time.perf_counter()
        for images, labels in loader:
            loss = criterion(model(images.to(DEVICE)), labels.to(DEVICE))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
            seconds.append(time.perf_counter() - begun)
            begun = time.perf_counter()
    return seconds


def our_loop(task: Task, **params: Any) -> list[float]:
    """Run the trainer; returns the seconds of each step, from the end of the one before."""
    trainer, step, ends = registry.load("train", "supervised", "benchmark"), Loop._step, [0.0]

    def timed_step(self: Loop, number: int, rows: Tensor) -> Tensor:
        loss = step(self, number, rows)
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        ends.append(time.perf_counter())
        return loss

    ends[0] = time.perf_counter()
    with mock.patch.object(Loop, "_step", timed_step):
        trainer.function(trainer.params(lr=LR, crop=PADDING, **params), task)
    return np.diff(ends).tolist()


def make_task(folder: str, images: np.ndarray, labels: np.ndarray, **changes: Any) -> Task:
    plugin = registry.load("models", "resnet", "benchmark")
    fields: dict[str, Any] = {
        "images": to_tensor(images, DEVICE),
        "labels": torch.from_numpy(labels).to(DEVICE),
        "rows": torch.arange(len(images), device=DEVICE),
        "weights": None,
        "captions": list,
        "rounds": 1,
        "mean": torch.full((3,), 0.5, device=DEVICE),
        "std": torch.full((3,), 0.25, device=DEVICE),
        "classes": 10,
        "class_names": (),
        "model": plugin,
        "model_params": plugin.params(depth=18),
        "epochs": 1,
        "steps_as": None,
        "min_steps": 0,
        "batch_size": BATCH,
        "root_seed": 0,
        "seed": 0,
        "context": (),
        "device": DEVICE,
        "checkpoint": Path(folder) / "checkpoint",
        "out": Path(folder),
        "label": "benchmark",
        "cost": Cost(),
        "heldout": lambda: {"test": to_tensor(images[:BATCH], DEVICE)},
        "scoring": Cost(),
    }
    return Task(**(fields | changes))


def noise(batches: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random 32 x 32 pictures with random labels: enough to time a step."""
    random = np.random.default_rng(0)
    n = batches * BATCH
    return random.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), random.integers(0, 10, n)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return handwritten digits as 16 x 16 pictures, in a random order."""
    data = load_digits()
    grey = np.kron((data.images * 15).astype(np.uint8), np.ones((1, 2, 2), np.uint8))
    order = np.random.default_rng(0).permutation(len(grey))
    return np.repeat(grey[order, :, :, None], 3, axis=3), data.target[order].astype(np.int64)


def accuracies(network: dict[str, Any]) -> tuple[float, float]:
    """Return ours and the peer's mean accuracy on held-out digits: same start, data and epochs."""
    images, labels = digits()
    train, test = (images[:DIGITS], labels[:DIGITS]), (images[DIGITS:], labels[DIGITS:])
    ours, peer = [], []
    for seed in range(REPETITIONS):
        with tempfile.TemporaryDirectory() as folder:
            changes = network | {
                "epochs": EPOCHS,
                "seed": seed,
                "heldout": lambda: {"test": to_tensor(test[0], DEVICE)},
                "scoring": Cost(),
            }
            task = make_task(folder, *train, **changes)
            our_loop(task, flip=False)
            ours.append(np.mean(np.load(task.out / "test_logits.npy").argmax(1) == test[1]))
            model = build_classifier(task).to(memory_format=torch.contiguous_format)
        released_loop(model, Pictures(*train, flip=False), EPOCHS, seed)
        pixels = normalise(to_tensor(test[0], DEVICE).float() / 255, task.mean, task.std)
        with torch.no_grad():
            predicted = model.eval()(pixels.contiguous()).argmax(1).cpu().numpy()
        peer.append(np.mean(predicted == test[1]))
    return float(np.mean(ours)), float(np.mean(peer))


def speed(name: str, called: str, model: str, **params: Any) -> Comparison:
    """Time a step of each, the first (warm-up) left out."""
    images, labels = noise(STEPS)
    plugin = registry.load("models", model, "benchmark")
    network = {"model": plugin, "model_params": plugin.params(**params)}
    with tempfile.TemporaryDirectory() as folder:
        task = make_task(folder, images, labels, **network)
        our_s = median(our_loop(task)[1:])
        plain = build_classifier(task).to(memory_format=torch.contiguous_format)
    memory = peak_gb()
    peer_s = median(released_loop(plain, Pictures(images, labels, flip=True), 1, 0)[1:])
    ours, peer = accuracies(network)
    return Comparison(
        name=f"training/{name}",
        input=f"{called}, 32 x 32, {DEVICE.type}, one batch of {BATCH} (median of {STEPS - 1}; "
        f"{BATCH / our_s:.1f} and {BATCH / peer_s:.1f} images/s)",
        n=BATCH,
        ours_s=our_s,
        peer="plain float32 loop of the released kind",
        peer_s=peer_s,
        ratio=peer_s / our_s,
        quality=ours / peer,
        quality_is=f"accuracy over the peer's ({ours:.4f}, {peer:.4f}; digits, {EPOCHS} epochs, "
        f"{REPETITIONS} repetitions)",
        peak_gb=memory,
    )


def recording() -> Comparison:
    """Alternate runs with and without dynamics; the fastest step of each kind counts."""
    images, labels = noise(24)
    small = registry.load("models", "cifar_resnet", "benchmark")
    fastest, logits = {True: float("inf"), False: float("inf")}, {}
    for record in (False, True) * 4:
        with tempfile.TemporaryDirectory() as folder:
            task = make_task(folder, images, labels, model=small, model_params=small.params(stem_stride=2))
            fastest[record] = min(fastest[record], *our_loop(task, record=record))
            logits[record] = np.load(task.out / "test_logits.npy")
    return Comparison(
        name="training/recording",
        input=f"ResNet-8, stem stride 2, {DEVICE.type}, one batch of {BATCH} with dynamics",
        n=BATCH,
        ours_s=fastest[True],
        peer="the same without",
        peer_s=fastest[False],
        ratio=fastest[False] / fastest[True],
        quality=float(np.array_equal(logits[True], logits[False])),
        quality_is="same model (1 = all bits)",
        peak_gb=peak_gb(),
    )


def memory() -> Comparison:
    """Train in a process as it is and, from then on, in one that keeps what it frees."""
    images, labels = noise(STEPS)
    network = registry.load("models", "convnet", "benchmark")
    seconds, logits = [], []
    for keeps in (False, True):
        if keeps:
            keep_freed_memory()
        with tempfile.TemporaryDirectory() as folder:
            task = make_task(folder, images, labels, model=network, model_params=network.params())
            seconds.append(median(our_loop(task)[1:]))
            logits.append(np.load(task.out / "test_logits.npy"))
    return Comparison(
        name="training/memory",
        input=f"ConvNet of depth 3 and width 128, 32 x 32, {DEVICE.type}, one batch of {BATCH}",
        n=BATCH,
        ours_s=seconds[1],
        peer="the same in a process that hands freed memory back",
        peer_s=seconds[0],
        ratio=seconds[0] / seconds[1],
        quality=float(np.array_equal(*logits)),
        quality_is="same model (1 = all bits)",
        peak_gb=peak_gb(),
    )


def batches() -> Comparison:
    """Time the preparation of one batch: crop, mirror, scale, normalise."""
    images, labels = noise(4)
    pool, data = to_tensor(images, DEVICE), Pictures(images, labels, flip=True)
    mean, std = torch.full((3,), 0.5, device=DEVICE), torch.full((3,), 0.25, device=DEVICE)
    chosen = torch.arange(BATCH, device=DEVICE)

    def ours() -> Tensor:
        pixels = normalise(random_crops(pool, chosen, PADDING, True).float().div_(255), mean, std)
        return pixels.contiguous(memory_format=torch.channels_last).cpu()

    def peer() -> Tensor:
        return torch.stack([data[i][0] for i in range(BATCH)]).to(DEVICE)

    our_s, peer_s = best(ours), best(peer)
    return Comparison(
        name="training/batches",
        input=f"{BATCH} pictures of 32 x 32, {DEVICE.type}",
        n=BATCH,
        ours_s=our_s,
        peer="torchvision's transforms, one image at a time",
        peer_s=peer_s,
        ratio=peer_s / our_s,
        quality=float(ours().std() / peer().std()),
        quality_is="deviation of the pixels over the peer's",
        peak_gb=peak_gb(),
    )


def best(function: Callable[[], Tensor]) -> float:
    """Return the seconds of the fastest of 20 calls."""
    return min(timed(function)[0] for _ in range(20))


def run() -> Iterator[Comparison]:
    yield batches()
    yield recording()
    yield speed("speed", "ResNet-18", "resnet", depth=18)
    yield speed("convnet", "ConvNet of depth 3 and width 128", "convnet")
    yield memory()  # last, as it holds for the rest of the process
