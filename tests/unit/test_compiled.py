"""Compiled loops take the threads that a job is given, and leave torch's as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = """
import torch

{first}
from winnow.models.engine import planes

images = torch.rand(64, 32, 16, 16).contiguous(memory_format=torch.channels_last)
assert planes.by_loops(images)
planes.forward(images, torch.ones(32), torch.zeros(32))
import numba
from winnow.select.engine.compiled import CORES
print(CORES, numba.get_num_threads(), torch.get_num_threads())
"""


def counted(first: str, threads: int, **changes: str) -> list[str]:
    """Return the numbers of threads after a compiled loop, in a process that began with `first`."""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": str(threads)} | changes
    command = [sys.executable, "-c", COUNT.format(first=first)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(("first", "threads"), [("farthest", 1), ("herd", 1), ("facility_location", 2)])
def test_loops_take_as_many_threads_as_the_job_has(first: str, threads: int) -> None:
    assert counted(f"from winnow.select.engine import {first}", threads) == [str(threads)] * 3


def test_loops_are_compiled_with_the_threads_of_the_job(tmp_path: Path) -> None:
    """As in a distillation, which imports no selection; what is cached already would not be compiled."""
    assert counted("", 1, NUMBA_CACHE_DIR=str(tmp_path)) == ["1"] * 3


def test_loops_are_compiled_where_a_plugin_has_imported_numba_before(tmp_path: Path) -> None:
    """Numba ends in an error at a compilation after its number of threads was changed while they run."""
    assert counted("import numba", 1, NUMBA_CACHE_DIR=str(tmp_path))[:2] == ["1", "1"]
