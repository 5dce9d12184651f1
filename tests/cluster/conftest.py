"""The cluster that the tests of this folder share, and runs of the workflow on it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import SUITE, Run, Start
from slurm import Cluster, missing
from tree import Tree, built_once, make_tree


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster of three nodes. Where none can be started the tests are skipped, and fail in CI."""
    reason = missing()
    if reason and os.environ.get("CI"):
        pytest.fail(f"CI must run the cluster tests: {reason}")
    if reason:
        pytest.skip(reason)
    with Path("/tmp/winnow-slurm.lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        root = Path(tempfile.mkdtemp(prefix="winnow-slurm-", dir="/tmp"))
        cluster = Cluster(root)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
            shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def done_here(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The small suite's tree after an undisturbed run on this machine, without a cluster."""

    def build(root: Path) -> None:
        tree = make_tree(root, SUITE)
        # Trainings that last as long as a test wants without computing all the time.
        tree.replace(
            "src/winnow/train/engine/loop.py",
            "        rate, seed = self.schedule(step), self.passes.augmentation_seed(step)\n",
            '        time.sleep(float(os.environ.get("PAUSE", "0")))\n'
            "        rate, seed = self.schedule(step), self.passes.augmentation_seed(step)\n",
        )
        done = tree.snakemake()
        assert done.returncode == 0, done.stdout

    return built_once(tmp_path_factory, "here", build)


@pytest.fixture
def tree(done_here: Tree, tmp_path: Path) -> Tree:
    """The same tree before its run."""
    return done_here.copy(tmp_path / "tree", results=False)


@pytest.fixture
def start(cluster: Cluster, tree: Tree) -> Iterator[Start]:
    """Start runs of the tree; those that still live at the end are killed with their jobs."""
    runs: list[Run] = []

    def begin(*words: str, **environment: str) -> Run:
        runs.append(Run(cluster, tree, *words, **environment))
        return runs[-1]

    yield begin
    for run in runs:
        run.process.kill()
        run.process.wait()
    for job in cluster.jobs("pending,running"):
        cluster.run("scancel", job["id"], check=False)
    for node in cluster.nodes:
        if cluster.state(node) not in ("idle", "mixed", "allocated", "completing"):
            cluster.crash(node)
            cluster.start_node(node)
