"""A store with digits, in which jobs of any stage run as their scripts do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from winnow import registry
from winnow.data.prepare import prepare
from winnow.distill.engine.run import distill_all
from winnow.evaluate.engine.run import evaluate_all
from winnow.plan.catalogue import load_catalogue
from winnow.plan.specs import Plugged, Ref, Spec
from winnow.signals.engine.run import compute_all
from winnow.stage import Job
from winnow.store import building, write_json
from winnow.tables import write_table
from winnow.train.engine.run import train_all

DATA = "prepare/digits-00000000"
FILLING: dict[str, Any] = {"signals": compute_all, "distill": distill_all, "evaluate": evaluate_all}


def plugged(room: str, name: str, **params: Any) -> Plugged:
    used = registry.load(room, name, "test").params(**params)
    return Plugged(name=name, params=used.model_dump(mode="json"))


def make_store(folder: Path) -> Path:
    """Return a store with the digits as `DATA`."""
    with building(folder / DATA, {"spec": DATA}) as artefact:
        assert artefact is not None
        catalogue = load_catalogue(Path(__file__).parents[2] / "datasets.yaml")
        prepare(catalogue["digits"], {}, artefact.out)
    return folder


def select(store: Path, reference: Ref, seed: int, index: np.ndarray, weight: float = 1.0) -> None:
    """Keep examples by their positions, all of one weight."""
    with building(store / reference, {"spec": reference, "index": str(index)}) as artefact:
        assert artefact is not None
        table = pd.DataFrame({"index": index, "weight": weight, "rank": range(len(index))})
        write_table(artefact.folder(seed) / "subset.parquet", table)
        write_json(artefact.folder(seed) / "facts.json", {"rounds": 1})


def run(store: Path, spec: Spec) -> Ref:
    """Run one job; returns its reference."""
    job: Job[Any] = Job(spec, store, store / spec.stage / spec.id(), "test", "cpu")
    if spec.stage == "train":
        train_all(job)
    else:
        with job.building() as artefact:
            if artefact is not None:
                FILLING[spec.stage](job, artefact)
    return f"{spec.stage}/{spec.id()}"
