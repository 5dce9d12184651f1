"""A store of stand-ins: artefacts with the shapes and formats of real ones and random content.

The real stages run on them, so that what a rehearsal times, and what it finds broken, is the code of the
run itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from winnow.plan.specs import Ref, Spec
from winnow.rehearse.clock import Watch, imports_watched, quiet
from winnow.rehearse.measures import StageMeasure
from winnow.stage import Job
from winnow.store import building, read_json, save_array, write_json

TEST = 8
"""Examples of a stand-in's test split: enough for a protocol to run."""


@dataclass(frozen=True)
class Look:
    """What matters of a dataset: images (height, width, channels), classes, and bytes of a pixel."""

    shape: tuple[int, ...]
    classes: int
    pixel_bytes: int = 1

    @property
    def image_bytes(self) -> int:
        return int(np.prod(self.shape)) * self.pixel_bytes


def without_pixels(look: Look) -> Look:
    """Return the look of data whose images nobody will see, and which may be many."""
    return Look((1, 1, look.shape[-1]), look.classes)


@dataclass(frozen=True)
class Ran:
    """A finished stand-in job: its folder, the costs of its repetitions, its seconds, those of imports."""

    folder: Path
    costs: dict[str, dict[str, float]]
    seconds: float
    imported_s: float

    def cost(self, repetition: str) -> float:
        return quiet(self.costs[repetition])

    @property
    def overhead_s(self) -> float:
        """Seconds of the job outside all repetitions: provenance, digests, renames."""
        return max(0.0, self.seconds - sum(quiet(cost) for cost in self.costs.values()))

    def bytes_of(self, pattern: str) -> int:
        return sum(path.stat().st_size for path in self.folder.glob(pattern) if path.is_file())


def run(store: Path, spec: Spec, stage: Callable[[Job[Any]], None], device: str) -> Ran:
    """Run one job of a stage on the stand-in store, as its script does."""
    job: Job[Any] = Job(spec, store, store / spec.stage / spec.id(), "rehearsal", device)
    watch = Watch()
    with imports_watched() as imported:
        stage(job)
    seconds = watch.seconds
    costs = read_json(job.output / "provenance.json")["costs"]
    return Ran(job.output, costs, seconds, imported.seconds)


def filling(stage: Callable[[Any, Any], None]) -> Callable[[Job[Any]], None]:
    """Return a stage that fills an artefact as one that builds it too, as the stages' scripts do."""

    def whole(job: Job[Any]) -> None:
        with job.building() as artefact:
            if artefact is not None:
                stage(job, artefact)

    return whole


def data_reference(look: Look, n: int) -> Ref:
    """Return the name of a stand-in dataset of n training examples."""
    return f"prepare/standin-{'x'.join(map(str, look.shape))}-{look.classes}-{n}"


def make_data(store: Path, look: Look, n: int) -> Ref:
    """Write a prepared dataset of n random training images with labels and captions, and a few others.

    Few classes have members where there are few examples, so that each has several.
    """
    reference = data_reference(look, n)
    random, channels = np.random.default_rng(n), look.shape[-1]
    with building(store / reference, {"spec": reference}) as artefact:
        if artefact is None:
            return reference
        for split, count in (("train", n), ("validation", TEST), ("test", TEST)):
            labels = random.permutation(np.arange(count) % max(2, min(look.classes, count // 32)))
            save_array(
                artefact.out / f"{split}_images.npy",
                random.integers(256, size=(count, *look.shape), dtype=np.uint8),
            )
            save_array(artefact.out / f"{split}_labels.npy", labels)
            captions = pd.DataFrame({"caption": [f"picture {row} of a stand-in" for row in range(count)]})
            captions.to_parquet(artefact.out / f"{split}_table.parquet")
        clean = random.permutation(labels_of(artefact.out))
        save_array(artefact.out / "train_clean_labels.npy", clean)
        facts = {
            "name": "standin",
            "kind": "images",
            "shape": look.shape,
            "classes": [str(label) for label in range(max(2, look.classes))],
            "mean": [0.5] * channels,
            "std": [0.25] * channels,
            "pool": ["train"],
            "splits": {"train": {"n": n}, "validation": {"n": TEST}, "test": {"n": TEST}},
        }
        write_json(artefact.out / "dataset.json", facts)
    return reference


def labels_of(folder: Path) -> np.ndarray:
    """Return the training labels of a stand-in, (n,) int64."""
    labels: np.ndarray = np.load(folder / "train_labels.npy", allow_pickle=False)
    return labels


def make_signal(store: Path, key: str, like: StageMeasure, n: int, seeds: tuple[int, ...]) -> Ref:
    """Write a signal of n rows with the columns, type and range of one that was rehearsed."""
    reference = f"signals/standin-{key}-{n}"
    with building(store / reference, {"spec": reference, "seeds": str(seeds)}) as artefact:
        if artefact is not None:
            for seed in seeds:
                values = random_rows(like, n, np.random.default_rng((n, seed)))
                save_array(artefact.folder(seed) / "signal.npy", values)
    return reference


def random_rows(like: StageMeasure, n: int, random: np.random.Generator) -> np.ndarray:
    """Return random values, (n, *columns): whole numbers in the range, or normal with its sign."""
    shape, dtype, (low, high) = (n, *like.columns), np.dtype(like.dtype), like.range
    if np.issubdtype(dtype, np.integer):
        return random.integers(int(low), max(int(high), int(low) + 1) + 1, size=shape).astype(dtype)
    values = random.standard_normal(shape).astype(dtype)
    return np.abs(values) if low >= 0 else values
