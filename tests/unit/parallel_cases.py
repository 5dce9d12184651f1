"""Small training runs for `test_parallel_training`, and the command that its processes run.

`torchrun ... parallel_cases.py OUT` trains them by several processes, checks that all end with the same
bits, and leaves what the first wrote.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor, distributed

from winnow import registry
from winnow.store import Cost
from winnow.train.engine.loop import Loop
from winnow.train.engine.task import Task

ROWS = 60
RESNET = {"model": "cifar_resnet", "model_params": {"width": 4}, "batch_size": 20}
CONVNET = {"model": "convnet", "model_params": {"depth": 1, "width": 8, "norm": "batch"}, "batch_size": 20}
GROUPED = {"model": "convnet", "model_params": {"depth": 1, "width": 8}, "batch_size": 29}
MLP = {"model": "mlp", "model_params": {"width": 16}, "batch_size": 20}
TOWERS = {"model": "clip", "model_params": {"architecture": "tiny-vit"}, "batch_size": 20}
WEIGHTED = {"weights": torch.linspace(0.1, 4, ROWS)}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "group norm": ("supervised", GROUPED | WEIGHTED, {"crop": 2, "flip": True, "record": True}),
    "resnet, weights": ("supervised", RESNET | WEIGHTED, {"label_smoothing": 0.1}),
    "mixup": ("supervised", MLP | WEIGHTED, {"mixup": 0.5, "optimiser": "adamw", "lr": 1e-3}),
    "sam": ("supervised", CONVNET | WEIGHTED, {"optimiser": "sam", "record": True}),
    "asam": ("supervised", CONVNET, {"optimiser": "asam", "rho": 1.0, "record": True}),
    "bfloat16": ("supervised", CONVNET, {"precision": "bf16"}),
    "simclr": ("simclr", CONVNET, {"projection": 8, "cosine": True}),
    "barlow twins": ("barlow_twins", CONVNET, {"projector": (8, 12, 6), "warmup": 1, "clip": False}),
    # The biases of keys have no gradient but rounding, which Adam would make as large as any other.
    "clip": ("clip", TOWERS, {"lr": 1e-3, "eps": 1e-4}),
}


def pictures(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 8, 8, 3) uint8 images of ten classes, a blurred template each, and their labels."""
    random = np.random.default_rng(3)
    templates, labels = random.integers(0, 200, (10, 8, 8, 3)), np.arange(n) % 10
    images = templates[labels] + random.integers(0, 56, (n, 8, 8, 3))
    return images.astype(np.uint8), labels.astype(np.int64)


def make_task(folder: Path, model: str, model_params: dict[str, Any], **changes: Any) -> Task:
    """Return a task on 60 images: 2 epochs."""
    images, labels = pictures(90)
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2)
    (folder / "out").mkdir(parents=True, exist_ok=True)
    plugin = registry.load("models", model, "test")
    fields: dict[str, Any] = {
        "images": tensors,
        "labels": torch.from_numpy(labels),
        "rows": torch.arange(5, 5 + ROWS),
        "weights": None,
        "captions": lambda: [[f"picture {row % 7} of class {row % 10}"] for row in range(90)],
        "rounds": 1,
        "mean": torch.full((3,), 0.4),
        "std": torch.full((3,), 0.3),
        "classes": 10,
        "class_names": tuple("abcdefghij"),
        "model": plugin,
        "model_params": plugin.params(**model_params),
        "epochs": 2,
        "steps_as": None,
        "min_steps": 0,
        "root_seed": 0,
        "seed": 0,
        "context": (),
        "device": torch.device("cpu"),
        "checkpoint": folder / "s0.safetensors",
        "out": folder / "out",
        "label": folder.name,
        "cost": Cost(),
        "heldout": lambda: {"test": tensors[70:]},
        "scoring": Cost(),
    }
    return Task(**(fields | changes))


def train(name: str, folder: Path) -> None:
    """Train a case; the first process writes into `folder/out`."""
    trainer, task, params = CASES[name]
    plugin = registry.load("train", trainer, "test")
    plain = {"crop": 0, "flip": False, "lr": 0.05, "schedule": "constant"} if trainer == "supervised" else {}
    chosen = plugin.params(**({"precision": "fp32"} | plain | params))
    plugin.function(chosen, make_task(folder, **task))


def written(folder: Path) -> dict[str, np.ndarray]:
    """Return every array that a trainer wrote, by name."""
    arrays = {f"weights.{k}": v.numpy() for k, v in load_file(folder / "model.safetensors").items()}
    arrays |= {path.stem: np.load(path) for path in folder.rglob("*.npy")}
    return arrays | {"losses": pd.read_parquet(folder / "history.parquet")["loss"].to_numpy()}


def run_and_compare(loop: Loop, run: Callable[[Loop], Tensor] = Loop.run) -> Tensor:
    """Run, then check that all processes hold the same weights, statistics, losses and records."""
    history = run(loop)
    values = [*loop.model.state_dict().values(), *loop.extras.values(), history]
    mine = torch.cat([value.detach().float().flatten() for value in values]).nan_to_num()
    first = mine.clone()
    distributed.broadcast(first, 0)
    assert torch.equal(mine, first)
    return history


def main() -> None:
    out = Path(sys.argv[1])
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    Loop.run = run_and_compare  # type: ignore[method-assign]
    for name in CASES:
        train(name, out / f"rank{rank}" / name)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
