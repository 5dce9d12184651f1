"""Run a selection job: `s<seed>/subset.parquet`, and `scores.parquet` where the method has a score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from winnow import registry
from winnow.data.dataset import Dataset
from winnow.plan.specs import SelectSpec
from winnow.seeds import generator
from winnow.select.engine.subset import Subset, View, check
from winnow.stage import Job
from winnow.store import Artefact, load_array, write_json


def select_all(job: Job[SelectSpec], artefact: Artefact) -> None:
    """Select for every repetition of the spec; each subset is checked against the contract."""
    spec = job.spec
    method = registry.load("select", spec.method.name, "spec: method.name")
    params = method.params(**spec.method.params)
    data = Dataset.open(job.input(spec.data))
    for seed in spec.seeds:
        with artefact.timed(seed):
            signals = {
                name: load_array(job.input(reference), f"s{seed}/signal.npy")
                for name, reference in spec.signals.items()
            }
            view = View(data.pool_size, data.pool_labels(), signals, spec.fraction)
            random = generator(spec.root_seed, "selection", seed, method.name)
            chosen = method.function(view, spec.budget, random, params)
            check(chosen, view, spec.budget, method.resamples)
            _save(artefact.folder(seed), chosen)


def _save(folder: Path, chosen: Subset) -> None:
    columns: dict[str, Any] = {
        "index": chosen.index.astype(np.int64),
        "weight": chosen.weight.astype(np.float32),
        "rank": np.arange(len(chosen.index), dtype=np.int32),
    }
    pd.DataFrame(columns).to_parquet(folder / "subset.parquet", index=False)
    facts: dict[str, Any] = {"n": len(chosen.index), "rounds": chosen.rounds, **chosen.facts}
    if chosen.score is not None:
        table = pd.DataFrame({"index": np.arange(len(chosen.score.values)), "score": chosen.score.values})
        table.to_parquet(folder / "scores.parquet", index=False)
        facts["keep"] = chosen.score.keep
    write_json(folder / "facts.json", facts)
