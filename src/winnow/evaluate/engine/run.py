"""Run an evaluation job: one `metrics.json` per repetition."""

from __future__ import annotations

import numpy as np

from winnow import registry
from winnow.data.dataset import Dataset
from winnow.evaluate.engine.view import EvaluationView
from winnow.plan.specs import EvaluateSpec, TrainSpec
from winnow.seeds import generator
from winnow.stage import Job
from winnow.store import Artefact, read_json, verified, write_json
from winnow.train.engine.contrastive import load_trained
from winnow.train.engine.device import pick_device
from winnow.train.engine.features import features
from winnow.train.engine.task import statistics


def evaluate_all(job: Job[EvaluateSpec], artefact: Artefact) -> None:
    """Measure every repetition's model; the values are fractions, with the count they rest on."""
    spec = job.spec
    protocol = registry.load("evaluate", spec.protocol.name, "spec: protocol.name")
    data = Dataset.open(job.input(spec.data))
    artefact.facts["device_used"] = str(pick_device(job.device))
    for seed in spec.seeds:
        with artefact.timed(seed):
            metrics = protocol.function(protocol.params(**spec.protocol.params), _view(job, data, seed))
            rows = {name: {"value": value, "n": n} for name, (value, n) in metrics.items()}
            write_json(artefact.folder(seed) / "metrics.json", {"version": spec.version, "metrics": rows})


def _view(job: Job[EvaluateSpec], data: Dataset, seed: int) -> EvaluationView:
    folder = job.input(job.spec.model)
    trained = TrainSpec.model_validate(read_json(verified(folder, "spec.json")))
    network = registry.load("models", trained.model.name, f"{folder}/spec.json: model.name")
    params, device = network.params(**trained.model.params), pick_device(job.device)
    model = load_trained(folder, seed, network, params, data.shape[2], data.shape[0]).encoder.to(device)
    mean, std = statistics(data, device)
    train, test = (features(model, data.images(split), mean, std).numpy() for split in ("train", "test"))
    return EvaluationView(
        train_features=np.ascontiguousarray(train),
        train_labels=data.labels("train"),
        test_features=np.ascontiguousarray(test),
        test_labels=data.labels("test"),
        classes=len(data.classes),
        random=generator(job.spec.root_seed, "evaluation", seed),
    )
