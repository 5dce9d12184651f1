"""The demo on the cluster gives, number by number, what it gives on one machine.

Four suites have every kind of job between them; `WINNOW_CLUSTER_SUITES=all` runs them all, in a quarter of
an hour.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from runs import Run, check_same_results
from slurm import Cluster
from tree import Tree, broken_artefacts

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

SUITES = os.environ.get("WINNOW_CLUSTER_SUITES", "noise, clipcov, mkdt, distillation")


def test_the_demo_on_the_cluster(cluster: Cluster, demo: Tree, tmp_path: Path) -> None:
    """The profile is the one that users edit, untouched; the cluster has no network but loopback."""
    there = demo.copy(tmp_path / "there", results=False)
    if SUITES != "all":
        (listed,) = re.findall(r"^suites: \[.*\]$", (there.root / "config.yaml").read_text(), re.MULTILINE)
        there.replace("config.yaml", listed, f"suites: [{SUITES}]")
    run = Run(cluster, there)
    text = run.finishes(7200)
    assert broken_artefacts(there.store) == []
    check_same_results(there, demo)

    jobs = run.jobs()
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    assert len({job["node"] for job in jobs}) == len(cluster.nodes)
    rules = [re.sub(r"^(rule_[a-z]+).*", r"\1", job["comment"]) for job in jobs]
    print({rule: rules.count(rule) for rule in sorted(set(rules))}, text.splitlines()[-1])
    kinds = ("prepare", "train", "cell", "signals", "selection", "distill", "evaluate")
    assert set(rules) == {f"rule_{kind}" for kind in kinds}


def test_nothing_but_loopback_can_be_reached(cluster: Cluster) -> None:
    if not cluster.isolated:
        pytest.skip("network namespaces are forbidden here")
    routes = cluster.run("ip", "-brief", "address")
    assert [line.split()[0] for line in routes.splitlines()] == ["lo"]
    assert "nreachable" in cluster.run(
        "python3", "-c", "import socket; socket.create_connection(('192.0.2.1', 80), 2)", check=False
    )
