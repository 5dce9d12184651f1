"""GPUs of this machine: a job takes cards that no other job of ours uses, and waits when there are none.

A file per card is locked for as long as the process lives, however it ends. The files lie in the machine's
temporary folder, so that clones and users share them; programs that do not look there are not seen. The
cards of a Slurm job are its own and numbered from 0, so each Slurm job has a folder of its own.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

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
    FOLDER.mkdir(exist_ok=True)
    _open_to_all(FOLDER, 0o1777)
    folder = FOLDER / os.environ.get(ALLOCATION, "machine")
    folder.mkdir(exist_ok=True)
    _open_to_all(folder, 0o1777)
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
        handle = path.open("a")
        _open_to_all(path, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held[card] = handle
        except BlockingIOError:
            handle.close()
    return held


def _open_to_all(path: Path, mode: int) -> None:
    """Let other users lock too; only the owner may say so, and has."""
    if path.stat().st_uid == os.getuid():
        path.chmod(mode)
