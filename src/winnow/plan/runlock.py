"""What a killed run leaves behind: Snakemake's locks, which block the same command, and jobs on a cluster.

A run holds a lock of ours, which the system frees however the run ends. Who gets it knows that no other
run of this clone is alive, clears Snakemake's locks, and cancels jobs that are still queued or running:
they would compute what the new run is about to submit again.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

LOOKS_ONLY = re.compile(
    r"-[tkfFpaq]*[nlSD][nlSDtkfFpaq]*|--(dry-?run|lint|(detailed-)?summary|(rule|file)graph|d3dag|dag|list.*|mode)"
)
"""Words of a command that looks, alone or run together (`-np`), and of the parts of a distributed run."""
JOB_NAME = "winnow_"
"""How the names of our jobs begin: `slurm-jobname-prefix` in profiles/slurm."""


def clear_stale_locks(folder: Path, words: list[str] = sys.argv) -> TextIO | None:
    """Delete Snakemake's locks in `folder` and end its cluster jobs, unless the run that left them lives.

    Keep the returned handle open for as long as the run lasts: the system frees it however the run ends.
    Commands that only look, and the parts of a distributed run (`--mode`), change nothing. After a run on
    another host nothing is cleared either: not all file systems share locks between hosts.
    """
    if looks_only(words):
        return None
    handle = hold(folder)
    if handle is None:
        return None
    handle.seek(0)
    here, before = socket.gethostname(), handle.read()
    stale = list((folder / "locks").glob("*.lock"))
    if before in ("", here):
        for lock in stale:
            lock.unlink(missing_ok=True)
        cancel_orphans(folder.resolve().parent)
    elif stale:
        _say(
            f"{folder}: the last run was started on {before} and has not ended cleanly. If it is dead, give "
            f"the command there, or delete {folder / 'running'} and give it here."
        )
        return handle
    handle.truncate(0)
    handle.write(here)
    handle.flush()
    return handle


def looks_only(words: list[str]) -> bool:
    """Whether a command computes nothing itself."""
    return any(map(LOOKS_ONLY.fullmatch, words))


def hold(folder: Path) -> TextIO | None:
    """Take the lock that a run of this clone holds; None while one is alive, or where none can be made."""
    try:
        folder.mkdir(exist_ok=True)
        handle = (folder / "running").open("a+")
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return None
    return handle


def cancel_orphans(clone: Path) -> None:
    """Cancel this user's Slurm jobs that a run in `clone` submitted, and wait until they are gone."""
    if shutil.which("squeue") is None or not (left := _jobs_of(clone)):
        return
    _say(
        f"{len(left)} cluster jobs of a killed run are still queued or running ({', '.join(left)}): "
        "cancelling them; what they have trained so far is kept in checkpoints"
    )
    subprocess.run(["scancel", *left], check=False, timeout=60)
    end = time.monotonic() + 120
    while _jobs_of(clone) and time.monotonic() < end:
        time.sleep(1)


def _jobs_of(clone: Path) -> list[str]:
    command = ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%A|%j|%Z"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    jobs = [line.split("|", 2) for line in done.stdout.splitlines() if line.count("|") >= 2]
    return [
        number
        for number, name, folder in jobs
        if name.startswith(JOB_NAME) and Path(folder).resolve() == clone
    ]


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
