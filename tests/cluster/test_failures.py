"""What clusters do to jobs: each run ends with the results of an undisturbed one, nothing done twice."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from runs import STEPS, Run, Start, check_same_results
from slurm import Cluster, wait_until
from tree import Tree, broken_artefacts

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

SLOW = {"PAUSE": "0.15"}
"""A training of 120 steps then lasts 18 seconds."""


def checkpoints(tree: Tree) -> list[Path]:
    return list(tree.store.glob(".work/train/*/checkpoints/*.safetensors"))


def train_for_a_while(run: Run) -> None:
    """Wait until both trainings are under way, with checkpoints that are not their first."""
    run.reaches(lambda: len(checkpoints(run.tree)) == 2)
    first = {path: path.stat().st_mtime_ns for path in checkpoints(run.tree)}
    run.reaches(lambda: all(path.stat().st_mtime_ns > before for path, before in first.items()))


def resumed_at(tree: Tree) -> list[int]:
    """Return the steps at which trainings went on."""
    logs = "".join(log.read_text() for log in tree.store.glob("logs/train/*.log"))
    return [int(step) for step in re.findall(rf"resumed at step (\d+) of {STEPS}", logs)]


def check_whole(run: Run, expected: Tree) -> None:
    assert broken_artefacts(run.tree.store) == []
    check_same_results(run.tree, expected)
    assert not checkpoints(run.tree), "a training was begun that nothing finished"


def test_a_node_crashes_under_a_training(start: Start, cluster: Cluster, done_here: Tree) -> None:
    run = start(**SLOW)
    train_for_a_while(run)
    victim = run.jobs("cell", "running")[0]
    cluster.crash(victim["node"])
    run.finishes()
    states = [job["state"] for job in run.jobs("cell")]
    assert states.count("NODE_FAIL") >= 1
    assert states.count("COMPLETED") == 2
    assert [step for step in resumed_at(run.tree) if step > 0], "no training went on from a checkpoint"
    check_whole(run, done_here)


def test_too_little_memory_passes_on_a_later_attempt(start: Start, done_here: Tree) -> None:
    memory = ("train:mem_mb=150 if attempt == 1 else 3000", "evaluate:mem_mb=100")
    run = start("--set-resources", *memory, **SLOW)
    run.finishes()
    asked = [(job["memory"], job["state"]) for job in run.jobs("cell")]
    assert {memory for memory, state in asked if state == "COMPLETED"} == {"3000M"}
    assert sum(state != "COMPLETED" for memory, state in asked if memory == "150M") == 2
    check_whole(run, done_here)


def test_a_time_limit_cuts_a_training_which_goes_on(start: Start, done_here: Tree) -> None:
    apart = ("--groups", "train=training", "evaluate=evaluation")
    run = start("--set-resources", "train:runtime=1 * attempt", *apart, PAUSE="0.75")
    run.finishes()
    states = [(job["limit"], job["state"]) for job in run.jobs("training")]
    assert ("1:00", "TIMEOUT") in states
    steps = resumed_at(run.tree)
    assert len(steps) == 2
    assert min(steps) > 0
    print(f"cut after a minute, went on at steps {steps} of {STEPS}")
    check_whole(run, done_here)


def test_a_job_is_cancelled_by_hand(start: Start, cluster: Cluster, done_here: Tree) -> None:
    run = start(**SLOW)
    train_for_a_while(run)
    victim = run.jobs("cell", "running")[0]
    cluster.run("scancel", victim["id"])
    run.finishes()
    states = [job["state"] for job in run.jobs("cell")]
    assert sorted(states) == ["CANCELLED", "COMPLETED", "COMPLETED"]
    assert len(resumed_at(run.tree)) == 1
    check_whole(run, done_here)


def test_snakemake_is_killed_and_started_again(start: Start, done_here: Tree) -> None:
    """The jobs that it left are ended first, so that none is computed twice."""
    run = start(**SLOW)
    train_for_a_while(run)
    os.killpg(run.process.pid, signal.SIGKILL)
    run.process.wait()
    assert len(run.jobs("cell", "running")) == 2
    again = start()
    text = again.finishes()
    assert "2 cluster jobs of a killed run" in text
    assert [job["state"] for job in again.jobs("cell")] == ["COMPLETED", "COMPLETED"]
    assert [job["state"] for job in run.jobs("cell")].count("COMPLETED") == 2
    assert len(resumed_at(run.tree)) == 2
    check_whole(again, done_here)


def test_the_controller_is_restarted(start: Start, cluster: Cluster, done_here: Tree) -> None:
    run = start(**SLOW)
    train_for_a_while(run)
    cluster.stop_controller()
    wait_until(lambda: "DOWN" in cluster.run("scontrol", "ping", check=False), 30, "the controller's end")
    cluster.start_controller()
    run.finishes()
    assert [job["state"] for job in run.jobs("cell")] == ["COMPLETED", "COMPLETED"]
    assert resumed_at(run.tree) == []
    check_whole(run, done_here)


LATE = """
def late(_):
    import os, subprocess, sys
    folder = sys.argv[sys.argv.index("--output") + 1]
    os.rename(folder, folder + ".late")
    subprocess.Popen(["sh", "-c", f"sleep 6; mv {folder}.late {folder}"], start_new_session=True)
"""


def test_a_result_is_seen_late(start: Start, tree: Tree, done_here: Tree) -> None:
    """As on a network file system, whose other hosts may see a new folder seconds later."""
    script = tree.root / "scripts" / "prepare.py"
    text = script.read_text()
    assert text.endswith("    run_main(main)\n")
    text = text.removesuffix("(main)\n") + "(lambda: late(main()))\n"
    script.write_text(text.replace("\n\ndef main", f"\n{LATE}\n\ndef main"))
    run = start()
    run.finishes()
    assert [job["state"] for job in run.jobs("prepare")] == ["COMPLETED"]
    assert broken_artefacts(tree.store) == []
    check_same_results(tree, done_here)
