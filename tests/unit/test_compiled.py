"""Compiled loops take the threads that a job is given, and leave torch's as they are."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COUNT = """
import torch

from winnow.select.engine import {first}
from winnow.distill.engine import planes

images = torch.rand(64, 32, 16, 16).contiguous(memory_format=torch.channels_last)
assert planes.by_loops(images)
planes.forward(images, torch.ones(32), torch.zeros(32))
import numba
from winnow.select.engine.compiled import CORES
print(CORES, numba.get_num_threads(), torch.get_num_threads())
"""


@pytest.mark.parametrize(("first", "threads"), [("farthest", 1), ("herd", 1), ("facility_location", 2)])
def test_loops_take_as_many_threads_as_the_job_has(first: str, threads: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_NUM_THREADS"}
    environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, "-c", COUNT.format(first=first)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(threads)] * 3
