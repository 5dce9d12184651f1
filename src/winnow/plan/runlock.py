"""Locks that a killed run leaves: Snakemake's own outlive it, and would block the same command."""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path
from typing import TextIO

LOOKS_ONLY = {"-n", "--dry-run", "--dryrun", "--lint", "--summary", "--rulegraph", "--dag", "--mode"}


def clear_stale_locks(folder: Path, words: list[str] = sys.argv) -> TextIO | None:
    """Delete Snakemake's locks in `folder` unless a run that holds our lock is alive.

    Keep the returned handle open for as long as the run lasts: the system frees it however the run ends.
    Commands that only look, and the parts of a distributed run (`--mode`), change nothing.
    """
    if LOOKS_ONLY & set(words):
        return None
    try:
        folder.mkdir(exist_ok=True)
        handle = (folder / "running").open("w")
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return None
    for stale in (folder / "locks").glob("*.lock"):
        stale.unlink(missing_ok=True)
    return handle
