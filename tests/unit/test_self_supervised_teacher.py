"""A self-supervised teacher on real digits: what it is asked in a distillation is what its signal says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digits_store import DATA, make_store, plugged, run, select
from safetensors.torch import load_file
from torch import Tensor

from winnow.distill.engine import kernel
from winnow.plan.specs import DistillSpec, SignalSpec, TrainSpec

START = "selection/digits-random-s0-00000000"
WIDTH, BUDGET = 8, 20
SHORT = {"iterations": 3, "pool": 2, "oldest": 3, "batch_real": 64, "lr_images": 0.05}


@pytest.fixture
def taught(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Return a store with digits, a subset, a teacher and what it makes of each digit; and these two."""
    store = make_store(tmp_path / "store")
    select(store, START, 0, np.arange(BUDGET))
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
