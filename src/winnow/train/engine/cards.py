"""GPUs of this machine: a job takes cards that no other job of ours uses, and waits when there are none.

A file per card is locked for as long as the process lives, however it ends. The files lie in the machine's
temporary folder, so that clones and users share them; programs that do not look there are not seen. The
cards of a Slurm job are its own and numbered from 0, so each Slurm job has a folder of its own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from winnow.errors import UserError

FOLDER = Path(tempfile.gettempdir()) / "winnow-cards"
ALLOCATION = "SLURM_JOB_ID"
_HELD: list[TextIO] = []


def claim_cards(present: int, count: int = 1, wanted: int | None = None) -> None:
    """Let this process and its children see `count` of the cards only: CUDA_VISIBLE_DEVICES is set.

    present: how many cards CUDA sees now. wanted: the position of one among them that it must be.
    Does nothing when this process has cards already.
    """
    if _HELD:
        return
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    cards = named[:present] or [str(i) for i in range(present)]
    taken = take(cards if wanted is None else [cards[wanted]], count)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)


def take(cards: Sequence[str], count: int) -> list[str]:
    """Return `count` of the cards, locked until this process ends; waits until so many are free at once."""
    folder = FOLDER / os.environ.get(ALLOCATION, "machine")
    for shared in (FOLDER, folder):
        _make_folder(shared)
    told = False
    while True:
        held = _lock_free(cards, count, folder)
        if len(held) == count:
            _HELD.extend(held.values())
            return list(held)
        for handle in held.values():
            handle.close()
        if not told:
            message = (
                f"{count} of the GPUs {', '.join(cards)} are not free: other jobs compute there; waiting"
            )
            print(message, file=sys.stderr, flush=True)
            told = True
        time.sleep(0.5)


def _lock_free(cards: Sequence[str], count: int, folder: Path) -> dict[str, TextIO]:
    held: dict[str, TextIO] = {}
    for card in cards:
        if len(held) == count:
            break
        path = folder / f"{card.replace('/', '_')}.lock"
        handle = _open_lock(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held[card] = handle
        except BlockingIOError:
            handle.close()
    return held


@contextlib.contextmanager
def _for_all_users() -> Iterator[None]:
    """Let files that are made meanwhile be everybody's from the first moment."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def _make_folder(path: Path) -> None:
    with _for_all_users(), contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o1777)
    if path.is_symlink():
        raise _is_a_link(path)


def _open_lock(path: Path) -> TextIO:
    """Open a lock's file, and make it where there is none.

    Linux (fs.protected_regular) forbids to create, where it is there, another user's file in such a folder.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW
    while True:
        try:
            return os.fdopen(os.open(path, flags), "r+")
        except FileNotFoundError:
            with _for_all_users(), contextlib.suppress(FileExistsError):
                return os.fdopen(os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), "r+")
        except OSError as error:
            raise (_is_a_link(path) if error.errno == errno.ELOOP else error) from error


def _is_a_link(path: Path) -> UserError:
    return UserError(f"{path}: a link, where this program makes the locks of its GPUs. Delete it.")
