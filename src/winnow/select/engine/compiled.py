"""Loops that are compiled at their first call and kept on disk; imported inside functions only.

They take as many threads as `OMP_NUM_THREADS` gives the job. Numba does not read it: it would start one per
core, and, as it shares OpenMP with torch, give torch as many. Jobs side by side, each with threads for all
cores that spin while they wait for each other, are many times slower than with one thread each.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

_TEXT = os.environ.get("OMP_NUM_THREADS", "")
_GIVEN = int(_TEXT) if _TEXT.isdecimal() and int(_TEXT) else None
if _GIVEN and "numba" not in sys.modules:  # a number that changes later ends in an error
    os.environ.setdefault("NUMBA_NUM_THREADS", str(_GIVEN))

import numba  # noqa: E402
from numba import njit as njit  # noqa: E402

# Numba looks for changes in the file of a compiled function, not in this one with its flags.
_FLAGS = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
_CACHE = Path(numba.config.CACHE_DIR or Path(__file__).parent / "__pycache__")  # type: ignore[attr-defined]
numba.config.CACHE_DIR = str(  # type: ignore[attr-defined]
    _CACHE / f"numba-{_FLAGS}"
)

parts = numba.prange
CORES = min(numba.get_num_threads(), _GIVEN or numba.get_num_threads())
# Elements below which one core is done before a second one has woken up.
WORTH_SHARING = 2**20


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a function of arrays; loops over `parts(n)` are shared among the cores (see `share`)."""
    made: Callable[..., None] = numba.njit(parallel=True, cache=True)(function)
    return made


def serial(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a function of arrays whose steps follow from each other: one core."""
    made: Callable[..., None] = numba.njit(cache=True)(function)
    return made


def summing(function: Callable[..., None]) -> Callable[..., None]:
    """Compile as above, sums in an order that suits vector instructions.

    The order is fixed for a given length, and rounded sums in a fixed order are monotone: smaller terms
    never give a larger sum. Differences are not safe here: they may be regrouped until nothing is left.
    """
    made: Callable[..., None] = numba.njit(parallel=True, cache=True, fastmath={"reassoc", "nsz"})(function)
    return made


def share(elements: int) -> None:
    """Choose between one core and all for the compiled calls that follow, by the work of each."""
    use(CORES if elements >= WORTH_SHARING else 1)


def use(threads: int) -> None:
    """Give the compiled calls that follow that many threads, at most the job's."""
    numba.set_num_threads(min(threads, CORES))
