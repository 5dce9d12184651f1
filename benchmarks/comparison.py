"""One line of a benchmark, and how its parts are measured."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Comparison:
    """Seconds of one run of ours and of the peer; ratio is peer over ours, quality ours over peer."""

    name: str
    input: str
    n: int
    ours_s: float
    peer: str
    peer_s: float
    ratio: float
    quality: float
    quality_is: str
    peak_gb: float

    def line(self) -> str:
        """Return the comparison for the screen; a peer that could not be run has neither time nor quality."""
        parts = [f"{self.name:<22} {self.input}: ours {self.ours_s:.3f} s, {self.peer}"]
        if not math.isnan(self.peer_s):
            parts[0] += f" {self.peer_s:.3f} s, {self.ratio:.1f} times faster"
        if not math.isnan(self.quality):
            parts.append(f"{self.quality_is} {self.quality:.4f}")
        return "; ".join([*parts, f"peak {self.peak_gb:.2f} GB"])


def timed(function: Callable[[], Result]) -> tuple[float, Result]:
    """Return (wall seconds, result) of one call."""
    begun = time.perf_counter()
    result = function()
    return time.perf_counter() - begun, result


def peak_gb() -> float:
    """Return the largest resident memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
