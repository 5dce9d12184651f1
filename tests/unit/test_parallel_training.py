"""Training by several processes: the result of one, resume with any number, and clean ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import parallel_cases
import pytest
import torch
from parallel_cases import CASES, written
from torch import nn
from torch.distributed import HashStore

from winnow import registry
from winnow.errors import UserError
from winnow.plan.specs import Plugged, TrainSpec
from winnow.stage import Job
from winnow.store import building, read_json
from winnow.train.engine import launch, parallel
from winnow.train.engine.launch import torchrun
from winnow.train.engine.run import train_all

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
TRAIN, FAULTY = ROOT / "scripts" / "train.py", HERE / "faulty_training.py"
OUTSIDE_SLURM = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
ENVIRONMENT = OUTSIDE_SLURM | {"PYTHONPATH": f"{ROOT / 'src'}:{HERE}", "OMP_NUM_THREADS": "1"}


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        check=False,
        env=ENVIRONMENT | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], within: float) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, within, within, err_msg=name)


# -- the result of one process ------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train every case by two processes, through torchrun itself."""
    out = tmp_path_factory.mktemp("trained")
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = run(*words, HERE / "parallel_cases.py", out)
    assert done.returncode == 0, done.stderr
    return out / "rank0"


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_what_one_trains(trained: Path, tmp_path: Path, name: str) -> None:
    parallel_cases.train(name, tmp_path / name)
    found, expected = written(trained / name / "out"), written(tmp_path / name / "out")
    if name == "simclr":  # Adam turns the rounding of a gradient of zero into a whole step
        found, expected = ({"losses": arrays["losses"]} for arrays in (found, expected))
    assert_close(found, expected, 2e-2 if name == "bfloat16" else 2e-5)
    assert len(set(expected["losses"].tolist())) == len(expected["losses"])


def test_one_process_trains_the_model_itself() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))
    assert parallel.spread(model) is model
    assert type(model[1]) is nn.BatchNorm1d
    assert parallel.is_first() and parallel.processes() == 1
    assert parallel.total(0.1, torch.device("cpu")) == 0.1


@pytest.mark.parametrize(("name", "params"), [("mlp", {}), ("convnet", {"norm": "instance"})])
def test_a_process_without_rows_takes_part(name: str, params: dict[str, Any]) -> None:
    """Batch norm's share of this is tested by the jobs below."""
    plugin = registry.load("models", name, "test")
    model = plugin.function(plugin.params(**params), 3, 8)
    model(torch.zeros(0, 3, 8, 8)).sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


def test_dropout_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "processes", lambda: 2)
    with pytest.raises(UserError, match="dropout"):
        parallel.spread(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)))


# -- jobs: kill, resume with another number, ends ---------------------------------------------------


def make_store(store: Path) -> None:
    """Build `prepare/pictures-0`: 60 images to train on and 20 to test on."""
    images, labels = parallel_cases.pictures(80)
    with building(store / "prepare" / "pictures-0", {"spec": "pictures"}) as artefact:
        assert artefact is not None
        for split, part in {"train": slice(60), "test": slice(60, 80)}.items():
            np.save(artefact.out / f"{split}_images.npy", images[part])
            np.save(artefact.out / f"{split}_labels.npy", labels[part])
        facts = {"name": "pictures", "kind": "image", "shape": [8, 8, 3], "classes": [*"0123456789"]}
        facts |= {"mean": [0.4] * 3, "std": [0.3] * 3, "pool": ["train"]}
        facts |= {"splits": {"train": {"n": 60}, "test": {"n": 20}}}
        (artefact.out / "dataset.json").write_text(json.dumps(facts))


def make_job(store: Path, **params: Any) -> Job[TrainSpec]:
    """Return a job of two repetitions with batch norm, average, dynamics and crops.

    Its 6 steps have batches of 29, 29, 2, 29, 29 and 2 rows: of three processes one has none of the two.
    """
    chosen = {"precision": "fp32", "ema": 0.9, "record": True, "crop": 2, "lr": 0.05} | params
    spec = TrainSpec(
        seeds=(0, 1),
        root_seed=0,
        data="prepare/pictures-0",
        subset=None,
        budget=None,
        fraction=1.0,
        trainer=Plugged(name="supervised", params=chosen),
        model=Plugged(name="convnet", params={"depth": 1, "width": 8, "norm": "batch"}),
        epochs=2,
        steps_as=None,
        min_steps=0,
        batch_size=29,
        proxy=None,
        fold=None,
        split=None,
    )
    return Job(spec, store, store / "train" / "full-1", "by hand", "cpu")


def words_of(job: Job[TrainSpec], processes: int) -> list[str]:
    words = ["--spec", job.spec.json_text(), "--output", str(job.output), "--device", "cpu"]
    return [*words, "--processes", str(processes)]


def results(job: Job[TrainSpec]) -> dict[str, np.ndarray]:
    return {f"{s}.{k}": v for s in ("s0", "s1") for k, v in written(job.output / s).items()}


def messages(log: str) -> list[str]:
    """Return the error messages of a log that holds no stack trace."""
    assert "Traceback" not in log, log
    return re.findall("error: .*", log)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Job[TrainSpec]:
    """Train the job in this process, from the first step to the last."""
    store = tmp_path_factory.mktemp("whole")
    make_store(store)
    train_all(make_job(store))
    return make_job(store)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train by two processes, one of which is killed in the fourth step of the second repetition."""
    store = tmp_path_factory.mktemp("killed")
    make_store(store)
    done = run(FAULTY, *words_of(make_job(store), 2))
    assert done.returncode == 2
    assert len(messages(done.stderr)) == 1 and "process 1 was ended by SIGKILL" in done.stderr
    return store


def pretend_slurm(folder: Path, nodes: int) -> dict[str, str]:
    """Make Slurm's commands, with an srun that starts every task here; return the environment of a job."""
    folder.mkdir()
    scripts = {
        "squeue": '[ "$*" = "--noheader --jobs=17 --format=%N" ] && echo "w[1-3]"',
        "scontrol": f"""case "$*" in
            "show hostnames w[1-3]") for i in $(seq {nodes}); do echo w$i; done ;;
            "show node w1") echo "NodeName=w1 Arch=x86_64  NodeAddr=localhost OS=Linux 6.1 #1" ;;
            *) exit 1 ;;
        esac""",
        "srun": f"""
            printf '%s\\n' "$@" > {folder}/words
            env > {folder}/environment
            while [[ $1 == --* ]]; do shift; done
            for task in $(seq {nodes}); do "$@" & tasks+=($!); done
            for task in ${{tasks[@]}}; do wait $task || exit; done
        """,
    }
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    return {"SLURM_JOB_ID": "17", "SLURM_STEP_NUM_NODES": "1", "PATH": path}


def test_a_killed_run_resumes_with_more_processes_on_several_nodes(
    killed: Path, whole: Job[TrainSpec], tmp_path: Path
) -> None:
    job = make_job(Path(shutil.copytree(killed, tmp_path / "store")))
    slurm = pretend_slurm(tmp_path / "bin", nodes=3)
    done = run(TRAIN, *words_of(job, 3), "--threads", 4, **slurm)
    assert done.returncode == 0, done.stderr
    resumed = re.findall(r"resumed at step (\d) of 6", done.stderr)
    assert len(resumed) == 2 and resumed[0] == "6" and "1" <= resumed[1] <= "3"
    assert_close(results(job), results(whole), 2e-5)
    facts = read_json(job.output / "provenance.json")
    assert facts["processes"] == 3
    assert facts["costs"].keys() == {"0", "0 scoring", "1", "1 scoring"}
    words = (tmp_path / "bin" / "words").read_text().split()
    assert {"--nodes=3", "--ntasks=3", "--ntasks-per-node=1", "--cpus-per-task=4"} <= set(words)
    assert "SLURM_STEP" not in (tmp_path / "bin" / "environment").read_text()
    again = run(TRAIN, *words_of(job, 2))
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("already there") == 1


def test_a_killed_run_resumes_with_one_process(
    killed: Path, whole: Job[TrainSpec], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = make_job(Path(shutil.copytree(killed, tmp_path / "store")))
    train_all(job)
    assert capfd.readouterr().err.count("resumed at step") == 2
    assert_close(results(job), results(whole), 2e-5)
    assert read_json(job.output / "provenance.json")["processes"] == 1


def test_a_mistake_of_all_is_told_once(tmp_path: Path) -> None:
    make_store(tmp_path)
    job = make_job(tmp_path, crop=8)
    done = run(TRAIN, *words_of(job, 2))
    assert done.returncode == 2
    told = messages(done.stderr)
    assert len(told) == 1 and told[0].startswith(
        "error: full-1 s0: crop 8 of trainer supervised is too large"
    )
    assert not job.output.exists()


def test_the_first_process_tells_a_mistake_at_once_and_others_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that waits is ended by torchrun when the one that has told its failure ends."""
    naps: list[float] = []
    monkeypatch.setattr(parallel.time, "sleep", naps.append)

    def waits(rank: int, error: Exception, store: HashStore) -> list[float]:
        naps.clear()
        with pytest.raises(type(error)), parallel._one_message(store, rank):
            raise error
        return list(naps)

    grace, store = parallel.GRACE_S, HashStore()
    assert waits(0, UserError("of all"), store) == []
    assert waits(1, UserError("of all"), store) == [grace, 10 * grace]
    store = HashStore()
    assert waits(1, UserError("of one"), store) == [grace]
    assert waits(0, RuntimeError("connection closed"), store) == [grace, 10 * grace]


def test_processes_that_do_not_fit_are_refused_at_once(tmp_path: Path) -> None:
    make_store(tmp_path)
    for processes, device, environment, message in (
        (
            3,
            "cpu",
            pretend_slurm(tmp_path / "bin", nodes=2),
            "3 cannot be shared equally by 2 nodes; accepted: multiples of 2",
        ),
        (2, "cuda:1", {}, "'cuda:1' is one GPU, which 2 processes cannot share; accepted: cuda"),
        (-1, "cpu", {}, "accepted: 1 or more"),
    ):
        done = run(TRAIN, *words_of(make_job(tmp_path), processes), "--device", device, **environment)
        assert done.returncode == 2
        assert len(messages(done.stderr)) == 1 and message in done.stderr


def test_one_node_needs_no_srun() -> None:
    command = torchrun(4, "cuda", ["node1"])
    assert command[1:] == ["-m", "winnow.train.engine.launch", "cuda", "--standalone", "--nproc-per-node=4"]


def test_a_node_claims_a_card_for_each_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    claims: list[tuple[int, int]] = []
    monkeypatch.setattr(launch, "claim_cards", lambda present, count: claims.append((present, count)))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    launch._claim("cpu", 8)
    launch._claim("auto", 3)
    with pytest.raises(UserError, match="5 on a node of 4 GPUs"):
        launch._claim("cuda", 5)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    launch._claim("auto", 2)
    with pytest.raises(UserError, match="2 on a node of 0 GPUs"):
        launch._claim("cuda", 2)
    assert claims == [(4, 3)]
