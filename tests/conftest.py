"""Lets the tests of every folder import the helpers beside this file, and share one finished demo."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Tests run side by side. Where each takes all cores, threads spin while they wait for one another, and a test
# can take ten times as long. A job of the workflow has one thread too. Libraries read this
# when they are first imported, so that it comes before the imports below.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from tree import Tree, built_once, copy_repository
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

# A shell that starts the tests in the background lets all that they start ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


class OneCluster(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a file's tests to one process, and all that need the cluster, of which there is one, too."""

    def _split_scope(self, nodeid: str) -> str:
        return "cluster" if nodeid.startswith("tests/cluster/") else nodeid.split("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneCluster:
    return OneCluster(config, log)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The repository after `make demo`: every suite, on the processor. Copy it before you change it."""

    def build(root: Path) -> None:
        tree = copy_repository(root)
        tree.replace("config.yaml", "device: auto", "device: cpu")
        done = tree.snakemake("--quiet", "rules", "host")
        assert done.returncode == 0, done.stdout

    return built_once(tmp_path_factory, "demo", build)
