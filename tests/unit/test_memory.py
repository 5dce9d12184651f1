"""Jobs keep the memory that they free."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
from winnow.train.engine.memory import give_back_memory, keep_freed_memory
if {keeps}:
    keep_freed_memory()
def cycle():
    b'x' * (1 << 26)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
first = cycle()
print(max(cycle() for _ in range(20)) - first)
before = cycle()
give_back_memory()
print(cycle() - before)
"""


def faults(keeps: bool) -> list[int]:
    """Return how many pages the kernel cleared for 20 times 64 MiB, and for one time after giving back."""
    found = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keeps=keeps)], check=False, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    return [int(line) for line in found.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have another allocator")
def test_memory_that_is_freed_is_taken_again_without_the_kernel() -> None:
    kept, after = faults(keeps=True)
    # 64 MiB are 16,384 pages, or 32 huge ones.
    assert kept < 100, "hardly a page"
    assert after >= 16, "it was given back, and has to be cleared again"
    assert faults(keeps=False)[0] >= 20 * 16, "the default, which this is about"
