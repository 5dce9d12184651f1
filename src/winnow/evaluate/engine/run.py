"""Run an evaluation job: one `metrics.json` per repetition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from winnow import registry
from winnow.data.dataset import Dataset
from winnow.evaluate.engine.view import EvaluationView
from winnow.plan.specs import EvaluateSpec
from winnow.seeds import generator
from winnow.stage import Job
from winnow.store import Artefact, verified, write_json


def evaluate_all(job: Job[EvaluateSpec], artefact: Artefact) -> None:
    """Measure every repetition of the subject; the values are fractions, with the count they rest on."""
    spec = job.spec
    protocol = registry.load("evaluate", spec.protocol.name, "spec: protocol.name")
    params = protocol.params(**spec.protocol.params)
    data, folder = Dataset.open(job.input(spec.data)), job.input(spec.subject)
    artefact.facts["device_used"] = job.device if "model" in protocol.needs(params) else "cpu"
    for seed in spec.seeds:
        with artefact.timed(seed):
            view = EvaluationView(
                data=data,
                read=lambda name, seed=seed: verified(folder, f"s{seed}/{name}"),  # type: ignore[misc]
                random=generator(spec.root_seed, "evaluation", seed),
                encode=_encoder(job, data, folder, seed),
                budget=spec.budget,
            )
            metrics = protocol.function(params, view)
            rows = {name: {"value": value, "n": n} for name, (value, n) in metrics.items()}
            write_json(artefact.folder(seed) / "metrics.json", {"version": spec.version, "metrics": rows})


def _encoder(job: Job[EvaluateSpec], data: Dataset, folder: Path, seed: int) -> Callable[[str], np.ndarray]:
    def encode(split: str) -> np.ndarray:
        from winnow.train.engine.device import pick_device
        from winnow.train.engine.features import features
        from winnow.train.engine.task import statistics
        from winnow.train.engine.trained import load_trained

        device = pick_device(job.device)
        encoder = load_trained(folder, seed, data).get_submodule("encoder").to(device)
        mean, std = statistics(data, device)
        return np.ascontiguousarray(features(encoder, data.images(split), mean, std).numpy())

    return encode
