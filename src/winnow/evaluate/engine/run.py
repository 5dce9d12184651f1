"""Run an evaluation job: one `metrics.json` per repetition."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from winnow import registry
from winnow.data.dataset import Dataset
from winnow.data.lazy import ImageSource
from winnow.errors import UserError
from winnow.evaluate.engine.view import EvaluationView, Trial
from winnow.plan.specs import EvaluateSpec, TrainSpec
from winnow.seeds import generator
from winnow.stage import Job
from winnow.store import Artefact, Cost, read_json, save_array, verified, write_json
from winnow.train.engine.memory import keep_freed_memory


def evaluate_all(job: Job[EvaluateSpec], artefact: Artefact) -> None:
    """Measure every repetition of the subject; the values are fractions, with the count they rest on."""
    spec = job.spec
    protocol = registry.load("evaluate", spec.protocol.name, "spec: protocol.name")
    params = protocol.params(**spec.protocol.params)
    data, folder = Dataset.open(job.input(spec.data)), job.input(spec.subject)
    others = {name: Dataset.open(job.input(reference)) for name, reference in spec.transfer.items()}
    computes = not {"model", "judge"}.isdisjoint(protocol.needs(params))
    artefact.facts["device_used"] = job.device if computes else "cpu"
    for seed in spec.seeds:
        keep_freed_memory()
        with artefact.timed(seed) as cost:
            encoders = _Encoders(job, data, folder, seed)
            view = EvaluationView(
                data=data,
                read=lambda name, seed=seed: verified(folder, f"s{seed}/{name}"),  # type: ignore[misc]
                random=generator(spec.root_seed, "evaluation", seed),
                encode=encoders.split,
                encode_images=encoders.images,
                encode_texts=encoders.texts,
                encode_classes=encoders.classes,
                on_test_set=encoders.on_test_set,
                save=lambda name, values, seed=seed: save_array(artefact.folder(seed) / name, values),  # type: ignore[misc]
                budget=spec.budget,
                transfer=others,
                trial=_trial(job, artefact, seed, cost),
            )
            metrics = protocol.function(params, view)
            rows = {name: {"value": value, "n": n} for name, (value, n) in metrics.items()}
            write_json(artefact.folder(seed) / "metrics.json", {"version": spec.version, "metrics": rows})


def _trial(job: Job[EvaluateSpec], artefact: Artefact, seed: int, cost: Cost) -> Trial | None:
    spec = job.spec
    if spec.judge is None:
        return None
    return Trial(
        seed=seed,
        root_seed=spec.root_seed,
        device=job.device,
        judge=spec.judge,
        is_made=spec.subject.startswith("distill/"),
        beside=lambda name: verified(job.input(spec.beside or ""), f"s{seed}/{name}"),
        checkpoint=artefact.checkpoints / f"s{seed}.json",
        out=artefact.folder(seed),
        cost=cost,
    )


class _Encoders:
    """One repetition's model, loaded when a protocol first asks for features."""

    def __init__(self, job: Job[EvaluateSpec], data: Dataset, folder: Path, seed: int) -> None:
        self.data, self.folder, self.seed, self.device_name = data, folder, seed, job.device
        self.label = f"{job.output.name} s{seed}"

    @cached_property
    def model(self) -> Any:
        from winnow.train.engine.device import pick_device
        from winnow.train.engine.trained import load_trained

        return load_trained(self.folder, self.seed, self.data).to(pick_device(self.device_name))

    @cached_property
    def towers(self) -> Any:
        if not hasattr(self.model, "text"):
            raise UserError(f"{self.folder}: the model reads no texts; give `training` the trainer clip.")
        return self.model

    @cached_property
    def published(self) -> Any:
        from winnow.evaluate.engine.clip_sets import Published
        from winnow.train.engine.device import pick_device

        spec = TrainSpec.model_validate(read_json(verified(self.folder, "spec.json")))
        return Published.of(self.towers, spec, self.data, pick_device(self.device_name))

    def on_test_set(self, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
        from winnow.evaluate.engine.clip_sets import zero_shot

        return zero_shot(self.published, data)

    def split(self, name: str) -> np.ndarray:
        return self.images(self.data.images(name))

    def images(self, images: ImageSource) -> np.ndarray:
        from torch.nn.functional import normalize

        from winnow.train.engine.features import features
        from winnow.train.engine.space import Space

        encoder = self.model.get_submodule("encoder")
        found = features(encoder, images, Space.of(self.data, next(encoder.parameters()).device))
        found = normalize(found, dim=1) if hasattr(self.model, "text") else found
        return np.ascontiguousarray(found.numpy())

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        from winnow.train.engine.image_text import share_cut, text_features

        share_cut(self.towers.read, [[text] for text in texts], self.label)
        return text_features(self.towers, texts)

    def classes(self, names: Sequence[str], templates: Sequence[str]) -> np.ndarray:
        from winnow.train.engine.image_text import class_features

        return class_features(self.towers, names, templates)
