"""GPUs on the cluster, counted, numbered and limited as real ones are; trainings over several nodes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from runs import Run, Start
from slurm import Cluster
from tree import Tree, broken_artefacts

from winnow.store import read_json

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


def test_seven_jobs_on_six_gpus(cluster: Cluster, tree: Tree) -> None:
    """Each running job has a card of its own, and the seventh waits until one is free."""
    tree.replace("suites/tiny.yaml", "seeds: 2", "seeds: 7")
    tree.replace("config.yaml", "device: cpu", "device: auto")
    run = Run(
        cluster,
        tree,
        "--set-resources",
        "train:gpu=1",
        "train:mem_mb=1500",
        PAUSE="0.4",
    )
    run.reaches(lambda: len(cards_in_use(cluster)) == 6, 300)
    waiting = run.jobs("cell", "pending")
    assert len(run.jobs("cell", "running")) == 6
    assert len(waiting) == 1
    assert waiting[0]["reason"] == "Resources"
    used = cards_in_use(cluster)
    assert len(set(used)) == 6
    assert {card for _, card in used} == {"0", "1"}
    run.finishes()
    assert [job["state"] for job in run.jobs("cell")] == ["COMPLETED"] * 7


def cards_in_use(cluster: Cluster) -> list[tuple[str, str]]:
    """Return (node, CUDA_VISIBLE_DEVICES) of each training that runs now, read off its environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if len(words) < 2 or words[1] != b"scripts/train.py":
                continue
            pairs = (p.partition("=") for p in (process / "environ").read_text().split("\0"))
            environment = {key: value for key, _, value in pairs}
        except OSError:
            continue
        if environment.get("SLURMD_NODENAME") in cluster.nodes:
            found.append((environment["SLURMD_NODENAME"], environment.get("CUDA_VISIBLE_DEVICES", "")))
    return found


def test_one_training_on_two_nodes(start: Start, tree: Tree, done_here: Tree) -> None:
    """Two processes, a node and a card each, give the training of one process within rounding."""
    over_two = ("gpu=2", "nodes=2", "tasks=2", "tasks_per_gpu=0", "mpi=srun", "mem_mb=1500")
    run = start("--set-resources", *(f"train:{value}" for value in over_two))
    run.finishes()
    jobs = run.jobs("rule_train")
    assert [(job["state"], "[" in job["node"]) for job in jobs] == [("COMPLETED", True)] * 2, jobs
    for seed in (0, 1):
        name = f"digits-full-supervised-s{seed}"
        assert read_json(tree.artefact("train", name) / "provenance.json")["processes"] == 2
        losses = [
            pd.read_parquet(where.artefact("train", name) / f"s{seed}" / "history.parquet")["loss"]
            for where in (tree, done_here)
        ]
        assert losses[0].to_numpy() == pytest.approx(losses[1].to_numpy(), rel=1e-4)
    assert broken_artefacts(tree.store) == []
