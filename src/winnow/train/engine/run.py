"""Run a training job: one model per repetition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from winnow import registry
from winnow.data.dataset import Dataset
from winnow.errors import UserError
from winnow.plan.specs import TrainSpec
from winnow.stage import Job
from winnow.store import Artefact, verified
from winnow.train.engine.device import pick_device
from winnow.train.engine.task import Task, statistics, to_tensor


def train_all(job: Job[TrainSpec], artefact: Artefact) -> None:
    """Train every repetition of the spec; a finished repetition is kept when a killed job resumes."""
    spec = job.spec
    device = pick_device(job.device)
    data = Dataset.open(job.input(spec.data))
    images, labels = (to_tensor(data.pool_images(), device), torch.from_numpy(data.pool_labels()).to(device))
    mean, std = statistics(data, device)
    trainer = registry.load("train", spec.trainer.name, "spec: trainer.name")
    model = registry.load("models", spec.model.name, "spec: model.name")
    counts = {}
    for seed in spec.seeds:
        with artefact.timed(seed) as cost:
            rows = _rows(job, seed, len(images))
            counts[str(seed)] = len(rows)
            task = Task(
                images=images,
                labels=labels,
                rows=torch.from_numpy(rows).to(device),
                mean=mean,
                std=std,
                classes=len(data.classes),
                model=model,
                model_params=model.params(**spec.model.params),
                steps=spec.steps,
                batch_size=spec.batch_size,
                root_seed=spec.root_seed,
                seed=seed,
                device=device,
                checkpoint=artefact.checkpoints / f"s{seed}.safetensors",
                out=artefact.folder(seed),
                label=f"{job.output.name} s{seed}",
                cost=cost,
            )
            artefact.facts |= trainer.function(trainer.params(**spec.trainer.params), task)
    artefact.facts["examples"] = counts
    artefact.facts["device_used"] = str(device)


def _rows(job: Job[TrainSpec], seed: int, n: int) -> np.ndarray:
    """Return the positions to train on: the first `budget` of the subset, or everything."""
    spec = job.spec
    if spec.subset is None:
        return np.arange(n, dtype=np.int64)
    path: Path = verified(job.input(spec.subset), f"s{seed}/subset.parquet")
    rows: np.ndarray = pd.read_parquet(path, columns=["index"])["index"].to_numpy()
    if spec.budget is not None and len(rows) < spec.budget:
        raise UserError(f"{path}: {len(rows)} examples, but the budget is {spec.budget}")
    rows = rows[: spec.budget]
    if len(rows) < 2:
        raise UserError(
            f"{path}: {len(rows)} examples are too few to train on; raise the fraction in the suite"
        )
    if len(rows) and (rows.min() < 0 or rows.max() >= n):
        raise UserError(f"{path}: index {rows.max()} is outside the {n} examples of the pool")
    return rows
