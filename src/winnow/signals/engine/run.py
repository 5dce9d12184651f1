"""Run a signal job: one array per repetition, `s<seed>/signal.npy`."""

from __future__ import annotations

import re

import numpy as np

from winnow import registry
from winnow.data.dataset import Dataset
from winnow.errors import UserError
from winnow.plan.specs import SignalSpec
from winnow.signals.engine.view import Proxy, SignalView
from winnow.stage import Job
from winnow.store import Artefact, load_array, save_array
from winnow.train.engine.memory import keep_freed_memory

MODEL, OTHER = re.compile(r"model\d+"), re.compile(r"target|seen\d+")


def compute_all(job: Job[SignalSpec], artefact: Artefact) -> None:
    """Compute the signal for every repetition of the spec."""
    spec = job.spec
    plugin = registry.load("signals", spec.signal.name, "spec: signal.name")
    data = Dataset.open(job.input(spec.data))
    for seed in spec.seeds:
        keep_freed_memory()
        with artefact.timed(seed):
            view = _view(job, data, seed)
            values = plugin.function(plugin.params(**spec.signal.params), view)
            loaded = [proxy.device for proxy in view.proxies if "device" in vars(proxy)]
            artefact.facts["device_used"] = str(loaded[0]) if loaded else "cpu"
            _check(values, data, spec.signal.name)
            save_array(artefact.folder(seed) / "signal.npy", values)


def _view(job: Job[SignalSpec], data: Dataset, seed: int) -> SignalView:
    spec = job.spec
    models = sorted((name for name in spec.uses if MODEL.fullmatch(name)), key=lambda name: int(name[5:]))
    proxies = tuple(_proxy(job, name, seed, data) for name in models)
    arrays = {
        name: load_array(job.input(reference), f"s{seed}/signal.npy")
        for name, reference in spec.uses.items()
        if name not in models and not OTHER.fullmatch(name)
    }
    target = Dataset.open(job.input(spec.uses["target"])) if "target" in spec.uses else None
    return SignalView(data, spec.root_seed, seed, proxies, arrays, target)


def _proxy(job: Job[SignalSpec], name: str, seed: int, data: Dataset) -> Proxy:
    other = job.spec.uses.get(name.replace("model", "seen"))
    seen = None if other is None else Dataset.open(job.input(other))
    return Proxy(job.input(job.spec.uses[name]), seed, data, job.device, seen)


def _check(values: np.ndarray, data: Dataset, name: str) -> None:
    if len(values) != data.pool_size:
        raise UserError(f"signal {name}: {len(values)} rows for {data.pool_size} examples of {data.name}")
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        bad = int(np.argwhere(~np.isfinite(values))[0][0])
        raise UserError(f"signal {name}: example {bad} of {data.name} has a value that is not finite")
