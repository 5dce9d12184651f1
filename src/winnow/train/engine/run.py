"""Run a training job: one model per repetition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from winnow import registry
from winnow.data.dataset import Dataset
from winnow.errors import UserError
from winnow.plan.specs import TrainSpec
from winnow.stage import Job
from winnow.store import Artefact, Cost, load_array, read_json, verified
from winnow.train.engine.folds import folds_of
from winnow.train.engine.memory import keep_freed_memory
from winnow.train.engine.parallel import joined, processes, total
from winnow.train.engine.space import Space
from winnow.train.engine.synthetic import SyntheticSet
from winnow.train.engine.task import Task, to_tensor
from winnow.train.engine.teacher import load_teacher


def train_all(job: Job[TrainSpec]) -> None:
    """Build the job's artefact: a model per repetition. What a killed job has finished is kept."""
    with joined(job) as work:
        if work is not None:
            _train(job, *work)


def _train(job: Job[TrainSpec], artefact: Artefact, device: torch.device) -> None:
    spec = job.spec
    data = Dataset.open(job.input(spec.data))
    part = data if spec.split is None else data.with_pool(spec.split)
    source, labels = part.pool_images(), torch.from_numpy(part.pool_labels()).to(device)
    images = to_tensor(source, device) if isinstance(source, np.ndarray) else source
    trainer = registry.load("train", spec.trainer.name, "spec: trainer.name")
    whitens = "whitening" in trainer.needs(trainer.params(**spec.trainer.params))
    space = Space.of(data, device) if whitens else Space.plain(data, device)
    model = registry.load("models", spec.model.name, "spec: model.name")
    measured = [split for split in ("test", "validation") if split in data.splits and spec.proxy is None]
    counts = {}
    for seed in spec.seeds:
        keep_freed_memory()
        with artefact.timed(seed) as cost:
            synthetic, targets = _synthetic(job, seed), _targets(job, seed, part.pool_size)
            rows, weights, rounds = _rows(job, seed, part)
            if synthetic is not None:
                rows = np.arange(len(synthetic.labels))
            counts[str(seed)] = len(rows) // rounds
            task = Task(
                images=images,
                labels=labels,
                targets=targets,
                synthetic=synthetic,
                teacher=_teacher(job, seed, data),
                rows=torch.from_numpy(rows).to(device),
                weights=None if weights is None else torch.from_numpy(weights).to(device),
                captions=part.pool_captions,
                rounds=rounds,
                mean=space.mean,
                std=space.std,
                whitening=space.whitening,
                classes=len(data.classes),
                class_names=data.classes,
                model=model,
                model_params=model.params(**spec.model.params),
                epochs=spec.epochs,
                steps_as=spec.steps_as,
                min_steps=spec.min_steps,
                batch_size=spec.batch_size,
                root_seed=spec.root_seed,
                seed=seed,
                context=() if spec.proxy is None else ("proxy", spec.proxy),
                device=device,
                checkpoint=artefact.checkpoints / f"s{seed}.safetensors",
                out=artefact.folder(seed),
                label=f"{job.output.name} s{seed}",
                cost=cost,
                heldout=lambda: {split: to_tensor(data.images(split), device) for split in measured},
                scoring=artefact.costs.setdefault(f"{seed} scoring", Cost()),
            )
            facts = trainer.function(trainer.params(**spec.trainer.params), task)
            artefact.facts |= facts
            artefact.facts.setdefault("by_seed", {})[str(seed)] = facts
        cost.wall_s -= task.scoring.wall_s
        cost.cpu_s = total(cost.cpu_s - task.scoring.cpu_s, device)
    artefact.facts["examples"] = counts
    artefact.facts["device_used"] = str(device)
    artefact.facts["processes"] = processes()


def _synthetic(job: Job[TrainSpec], seed: int) -> SyntheticSet | None:
    if job.spec.synthetic is None:
        return None
    path = verified(job.input(job.spec.synthetic), f"s{seed}/synthetic.safetensors")
    return SyntheticSet.load(path).shown()


def _teacher(job: Job[TrainSpec], seed: int, data: Dataset) -> Callable[[], torch.nn.Module] | None:
    """Return what loads the model to learn from, or None."""
    if job.spec.teacher is None:
        return None
    folder = job.input(job.spec.teacher)
    return lambda: load_teacher(folder, seed, data)


def _targets(job: Job[TrainSpec], seed: int, n: int) -> torch.Tensor | None:
    """Return what to regress on, (n, d) float32, or None."""
    if job.spec.targets is None:
        return None
    folder = job.input(job.spec.targets)
    found = np.array(load_array(folder, f"s{seed}/signal.npy"), np.float32)
    if found.ndim != 2 or len(found) != n:
        raise UserError(
            f"{folder}: targets are {found.shape}, but there are {n} examples; give a signal of rows."
        )
    return torch.from_numpy(found)


def _rows(job: Job[TrainSpec], seed: int, data: Dataset) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Return the positions to train on, their weights unless all are 1, and the number of rounds."""
    spec, n = job.spec, data.pool_size
    if spec.fold is not None:
        parts = folds_of(data.pool_labels(), spec.fold[1], spec.root_seed, seed)
        return np.flatnonzero(parts != spec.fold[0]), None, 1
    if spec.subset is None:
        return np.arange(n, dtype=np.int64), None, 1
    path: Path = verified(job.input(spec.subset), f"s{seed}/subset.parquet")
    table = pd.read_parquet(path, columns=["index", "weight"])
    if spec.budget is not None and len(table) < spec.budget:
        raise UserError(f"{path}: {len(table)} examples, but the budget is {spec.budget}")
    table = table[: spec.budget]
    rows = table["index"].to_numpy(np.int64, copy=True)
    weights = table["weight"].to_numpy(np.float32, copy=True)
    if len(rows) < 2:
        raise UserError(
            f"{path}: {len(rows)} examples are too few to train on; raise the fraction in the suite"
        )
    if rows.min() < 0 or rows.max() >= n:
        raise UserError(f"{path}: index {rows.max()} is outside the {n} examples of the pool")
    facts = read_json(verified(job.input(spec.subset), f"s{seed}/facts.json"))
    return rows, None if (weights == 1).all() else weights, int(facts["rounds"])
