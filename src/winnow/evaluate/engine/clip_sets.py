"""Models of images and text on clip-benchmark's test sets: its reading, its prompts, its classifier.

The model goes there as anyone's would, by way of open_clip's own format. The accuracies are counted here:
what the package (1.6.2) counts with does not run on present versions of numpy.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from clip_benchmark.datasets.builder import build_dataset
from clip_benchmark.metrics.zeroshot_classification import run_classification, zero_shot_classifier
from torch.utils.data import DataLoader

from winnow.data.dataset import Dataset
from winnow.data.hub import SET
from winnow.errors import UserError
from winnow.models.engine.towers import Towers
from winnow.plan.specs import TrainSpec
from winnow.store import read_json
from winnow.train.engine.open_clip_format import write_model

BATCH = 256


@dataclass(frozen=True)
class Published:
    """A model as open_clip has it, with what makes its inputs of pictures and of texts."""

    model: torch.nn.Module
    transform: Callable[[Any], torch.Tensor]
    tokenizer: Callable[[list[str]], torch.Tensor]
    device: torch.device

    @classmethod
    def of(cls, towers: Towers, spec: TrainSpec, data: Dataset, device: torch.device) -> Published:
        """Return trained towers in open_clip's format; data: what they were trained on."""
        with tempfile.TemporaryDirectory() as folder:
            write_model(towers, spec, data, Path(folder))
            name = f"local-dir:{folder}"
            model, transform = open_clip.create_model_from_pretrained(name, device=device)
            return cls(model.eval(), transform, open_clip.get_tokenizer(name), device)


def zero_shot(published: Published, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of a test set's images for its classes, (n, classes) float32, and their labels.

    data: a prepared set of kind `benchmark`.
    """
    folder = data.data / data.name / SET
    facts = read_json(data.folder / "dataset.json")["set"]
    for name, size in facts["files"].items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != size:
            raise UserError(f"{folder / name}: missing or not what was fetched; run `make check`.")
    images = build_dataset(
        f"wds/{data.name}", root=str(folder), transform=published.transform, split=facts["split"]
    )
    shards = sum(name.endswith(".tar") for name in facts["files"])
    loader = DataLoader(images.batched(BATCH), batch_size=None, num_workers=_workers(shards))
    device = published.device.type
    how: dict[str, Any] = {"device": device, "amp": device == "cuda"}
    classifier = zero_shot_classifier(
        published.model, published.tokenizer, images.classes, images.templates, **how
    )
    scores, labels = run_classification(published.model, classifier, loader, **how)
    return scores.numpy(), labels.numpy()


def _workers(shards: int) -> int:
    """Return how many processes read: as many as the job has processors, and no more than shards."""
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    return 0 if threads == 1 else min(threads, shards)
