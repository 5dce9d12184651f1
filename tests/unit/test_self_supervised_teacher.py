"""A self-supervised teacher on real digits: what it is asked in a distillation is what its signal says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from winnow import registry
from winnow.data.prepare import prepare
from winnow.distill.engine import kernel
from winnow.distill.engine.run import distill_all
from winnow.plan.catalogue import load_catalogue
from winnow.plan.specs import DistillSpec, Plugged, SignalSpec, Spec, TrainSpec
from winnow.signals.engine.run import compute_all
from winnow.stage import Job
from winnow.store import building, write_json
from winnow.tables import write_table
from winnow.train.engine.run import train_all

ROOT = Path(__file__).parents[2]
DATA, START = "prepare/digits-00000000", "selection/digits-random-s0-00000000"
WIDTH, BUDGET = 8, 20
SHORT = {"iterations": 3, "pool": 2, "oldest": 3, "batch_real": 64, "lr_images": 0.05}


def plugged(room: str, name: str, **params: Any) -> Plugged:
    used = registry.load(room, name, "test").params(**params)
    return Plugged(name=name, params=used.model_dump(mode="json"))


def run(store: Path, spec: Spec) -> str:
    job: Job[Any] = Job(spec, store, store / spec.stage / spec.id(), "test", "cpu")
    if spec.stage == "train":
        train_all(job)
    else:
        with job.building() as artefact:
            if artefact is not None:
                {"signals": compute_all, "distill": distill_all}[spec.stage](job, artefact)
    return f"{spec.stage}/{spec.id()}"


@pytest.fixture
def taught(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Return a store with digits, a subset, a teacher and what it makes of each digit; and these two."""
    store = tmp_path / "store"
    with building(store / DATA, {"spec": DATA}) as artefact:
        assert artefact is not None
        prepare(load_catalogue(ROOT / "datasets.yaml")["digits"], {}, artefact.out)
    with building(store / START, {"spec": START}) as artefact:
        assert artefact is not None
        table = pd.DataFrame({"index": np.arange(BUDGET), "weight": 1.0, "rank": range(BUDGET)})
        write_table(artefact.folder(0) / "subset.parquet", table)
        write_json(artefact.folder(0) / "facts.json", {"rounds": 1})
    common: dict[str, Any] = {"seeds": (0,), "root_seed": 3, "data": DATA}
    teacher = run(
        store,
        TrainSpec(
            **common,
            subset=None,
            budget=None,
            fraction=1.0,
            trainer=plugged("train", "simclr", precision="fp32"),
            model=plugged("models", "convnet", depth=2, width=WIDTH, norm="batch"),
            epochs=1,
            steps_as=None,
            min_steps=0,
            batch_size=256,
            proxy=0,
            fold=None,
            split=None,
        ),
    )
    signal = SignalSpec(**common, signal=plugged("signals", "representations"), uses={"model0": teacher})
    return store, {"targets": run(store, signal), "model0": teacher}


def distilled(store: Path, uses: dict[str, str], **params: Any) -> Tensor:
    spec = DistillSpec(
        seeds=(0,),
        root_seed=3,
        data=DATA,
        start=START,
        method=plugged("distill", "krr_st", **SHORT, **params),
        variant="paper",
        model=plugged("models", "convnet", depth=2, width=WIDTH),
        budget=BUDGET,
        fraction=0.01,
        uses=uses,
    )
    return load_file(store / run(store, spec) / "s0/synthetic.safetensors")["images"]


def test_the_teacher_of_images_as_they_are_says_what_its_signal_says(
    taught: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, uses = taught
    still = distilled(store, {"targets": uses["targets"]}, crop=0, flip=False)
    moved = distilled(store, uses, crop=1, flip=False)
    assert not torch.allclose(moved, still, atol=1e-4)
    monkeypatch.setattr(kernel, "moved", lambda images, *_: images)
    torch.testing.assert_close(distilled(store, uses, crop=2, flip=False), still, rtol=1e-4, atol=1e-4)
