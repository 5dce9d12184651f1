"""Time that a quiet machine would take, and the most memory that this process has taken."""

from __future__ import annotations

import builtins
import contextlib
import os
import re
import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from winnow.train.engine.memory import give_back_memory


class Watch:
    """Runs from the moment it is made; child processes count.

    `seconds` is the smaller one of wall and processor time. Other work on the machine lengthens the first
    alone and several threads the second alone, so that neither spoils a forecast. What waits for a disk,
    or for a GPU, takes wall time: ask for `wall` there.
    """

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), _processor()

    @property
    def wall(self) -> float:
        return time.perf_counter() - self._wall

    @property
    def seconds(self) -> float:
        return min(self.wall, _processor() - self._cpu)


@dataclass
class Imported:
    """Seconds that modules of others took to import."""

    seconds: float = 0.0


@contextlib.contextmanager
def imports_watched() -> Iterator[Imported]:
    """Count what `import` statements take within, but for this project's own modules."""
    own, found, busy = builtins.__import__, Imported(), False

    def watched(
        name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> Any:
        nonlocal busy
        if busy or level or name.partition(".")[0] == "winnow":
            return own(name, globals, locals, fromlist, level)
        busy, watch = True, Watch()
        try:
            return own(name, globals, locals, fromlist, level)
        finally:
            busy, found.seconds = False, found.seconds + watch.seconds

    builtins.__import__ = watched
    try:
        yield found
    finally:
        builtins.__import__ = own


def quiet(cost: Mapping[str, float]) -> float:
    """Return the same of a cost that a job recorded, with `wall_s` and `cpu_s`."""
    return min(cost["wall_s"], cost["cpu_s"]) if cost["cpu_s"] else cost["wall_s"]


def _processor() -> float:
    # os.times counts in hundredths of a second; children need no finer clock.
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def forget_peak() -> None:
    """Let `peak_memory` start anew from what is in use now, where the system can (Linux)."""
    give_back_memory()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> float:
    """Return the peak resident bytes of this process.

    Linux counts a parent's memory into what `getrusage` says of its children; its status file does not.
    """
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    kilobytes = int(found.group(1)) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * 1024.0
