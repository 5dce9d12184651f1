"""Run a signal job: one array per repetition, `s<seed>/signal.npy`."""

from __future__ import annotations

import numpy as np

from winnow import registry
from winnow.data.dataset import Dataset
from winnow.errors import UserError
from winnow.plan.specs import SignalSpec, TrainSpec
from winnow.signals.engine.view import SignalView
from winnow.stage import Job
from winnow.store import Artefact, load_array, read_json, save_array, verified


def compute_all(job: Job[SignalSpec], artefact: Artefact) -> None:
    """Compute the signal for every repetition of the spec."""
    spec = job.spec
    plugin = registry.load("signals", spec.signal.name, "spec: signal.name")
    data = Dataset.open(job.input(spec.data))
    for seed in spec.seeds:
        with artefact.timed(seed):
            view = _view(job, data, seed)
            artefact.facts["device_used"] = str(view.device or "cpu")
            values = plugin.function(plugin.params(**spec.signal.params), view)
            _check(values, data, spec.signal.name)
            save_array(artefact.folder(seed) / "signal.npy", values)


def _view(job: Job[SignalSpec], data: Dataset, seed: int) -> SignalView:
    spec, model, device = job.spec, None, None
    if "model" in spec.uses:
        from winnow.train.engine.contrastive import load_trained
        from winnow.train.engine.device import pick_device

        device = pick_device(job.device)
        folder = job.input(spec.uses["model"])
        trained = TrainSpec.model_validate(read_json(verified(folder, "spec.json")))
        network = registry.load("models", trained.model.name, f"{folder}/spec.json: model.name")
        size, channels = data.shape[0], data.shape[2]
        model = load_trained(
            folder, seed, network, network.params(**trained.model.params), channels, size
        ).to(device)
    arrays = {
        name: load_array(job.input(reference), f"s{seed}/signal.npy")
        for name, reference in spec.uses.items()
        if name != "model"
    }
    return SignalView(data, spec.root_seed, seed, model, device, arrays)


def _check(values: np.ndarray, data: Dataset, name: str) -> None:
    if len(values) != data.pool_size:
        raise UserError(f"signal {name}: {len(values)} rows for {data.pool_size} examples of {data.name}")
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        bad = int(np.argwhere(~np.isfinite(values))[0][0])
        raise UserError(f"signal {name}: example {bad} of {data.name} has a value that is not finite")
