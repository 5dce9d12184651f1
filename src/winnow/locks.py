"""Locks on files, between processes and machines, and files for a group of users.

A lock is `flock`: the system frees it however its holder ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from winnow.errors import UserError


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock on a file, and say so when it has to be waited for."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with contextlib.ExitStack() as stack:
        while True:
            handle = stack.enter_context(_open(path))
            try:
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{path}: another process is at work here; waiting for it", file=sys.stderr, flush=True)
                fcntl.flock(handle, kind)
            if _is_at(handle.fileno(), path):
                break
        yield


@contextlib.contextmanager
def unless_locked(path: Path) -> Iterator[bool]:
    """Hold the lock on a file if it is free; yields whether it was."""
    with _open(path) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield _is_at(handle.fileno(), path)


def _open(path: Path) -> TextIO:
    """Open a lock's file for reading and writing: NFS locks it only as it is open."""
    return path.open("a+")


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file still has this name: clearing away a lock file unlinks it under its lock.

    The name is opened anew, since a network file system may answer `stat` from what it remembers.
    """
    try:
        with path.open() as present:
            return os.path.samestat(os.fstat(handle), os.fstat(present.fileno()))
    except FileNotFoundError:
        return False


def require_locks(folder: Path) -> None:
    """Raise UserError where locks do not work: there, two processes could build one artefact at once."""
    remedy = "Mount it with locks, or set `store` to another disk."
    take = "import fcntl, sys; fcntl.flock(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".locks.") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{folder}: files cannot be locked here ({error.strerror}). {remedy}") from error
        second = subprocess.run(
            [sys.executable, "-S", "-c", take, handle.name], capture_output=True, check=False
        )
    if second.returncode == 0:
        raise UserError(f"{folder}: two processes got the lock on one file. {remedy}")


def share_with_group(folder: Path) -> None:
    """Let this process's files be used and replaced by the group where the folder itself may be."""
    if folder.is_dir() and folder.stat().st_mode & stat.S_IWGRP:
        os.umask(os.umask(0o077) & ~stat.S_IRWXG)


@contextlib.contextmanager
def shared_with_group(folder: Path) -> Iterator[None]:
    """Do so for a while."""
    before = os.umask(0o077)
    os.umask(before)
    try:
        share_with_group(folder)
        yield
    finally:
        os.umask(before)
