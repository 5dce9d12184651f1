"""Runs of the workflow on the cluster, and what is asked of their results."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pandas as pd
from slurm import Cluster, wait_until
from tree import SNAKEMAKE, Tree

from winnow.evidence.metrics import COST_COLUMNS

SUITE = """\
name: tiny
title: Two trainings for tests
question: Does a run on a cluster survive what clusters do?
source: {paper: "none"}
arms:
  full: {label: full data, role: reference, method: full}
scales:
  demo:
    defaults:
      fractions: {epochs: [0.5]}
      seeds: 2
      seeds_per_job: 1
      proxy: &digits
        trainer: {name: supervised, params: {precision: fp32, crop: 1, flip: false}}
        model: {name: mlp, params: {depth: 1, width: 16}}
        epochs: 20
        batch_size: 256
      training: *digits
      evaluation: {name: accuracy}
    datasets:
      digits: {}
figures:
  - figure: accuracy_vs_fraction
"""
STEPS = 20 * 6


class Run:
    """The workflow, started in the background on the cluster with the profile that users have."""

    def __init__(self, cluster: Cluster, tree: Tree, *words: str, **environment: str) -> None:
        self.cluster, self.tree = cluster, tree
        self.log = tree.root / f"run{time.monotonic_ns()}.log"
        self.before = {job["id"] for job in cluster.jobs()}
        command = [str(SNAKEMAKE), "all", "--profile", "profiles/slurm"]
        faster = ["--slurm-init-seconds-before-status-checks", "1", "--default-resources"]
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                cluster.command(*command, *faster, "slurm_partition=cpu", "mem_mb=1500", *words),
                cwd=tree.root,
                env=tree.environment(WINNOW_CHECKPOINT_SECONDS="0.5", **environment),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def jobs(self, rule: str = "", states: str = "all") -> list[dict[str, str]]:
        """Return this run's jobs in some states, of one rule or of all."""
        mine = [job for job in self.cluster.jobs(states) if job["id"] not in self.before]
        return [job for job in mine if rule in job["comment"]]

    def reaches(self, condition: Callable[[], object], seconds: float = 180) -> None:
        """Wait until the condition holds while the run is alive."""

        def holds() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return bool(condition())

        wait_until(holds, seconds, lambda: f"what was to happen; jobs {self.jobs()}\n{self.log.read_text()}")

    def finishes(self, seconds: float = 600) -> str:
        """Wait for a successful end; returns all that was printed."""
        code = self.process.wait(seconds)
        text = self.log.read_text()
        assert code == 0, text
        return text


Start = Callable[..., Run]


def values(tree: Tree) -> pd.DataFrame:
    """Return a tree's metrics without what they cost."""
    table = pd.read_parquet(tree.store / "metrics.parquet").drop(columns=list(COST_COLUMNS))
    return table.sort_values(list(table.columns[:8])).reset_index(drop=True)


def check_same_results(tree: Tree, expected: Tree) -> None:
    """Refuse metrics that are not, number by number, those of the other tree, which may have more suites."""
    found, wanted = values(tree), values(expected)
    wanted = wanted[wanted["suite"].isin(found["suite"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)
