"""Stale locks are cleared for a run, and never under a live one."""

from __future__ import annotations

from pathlib import Path

import pytest

from winnow.plan.runlock import clear_stale_locks


def leave_lock(folder: Path) -> Path:
    lock = folder / "locks" / "0.input.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    return lock


def test_a_dead_runs_lock_is_cleared_and_a_live_ones_is_not(tmp_path: Path) -> None:
    lock = leave_lock(tmp_path)
    running = clear_stale_locks(tmp_path, ["snakemake", "all"])
    assert running is not None
    assert not lock.exists()
    lock = leave_lock(tmp_path)
    assert clear_stale_locks(tmp_path, ["snakemake", "all"]) is None
    assert lock.exists()
    running.close()
    again = clear_stale_locks(tmp_path, ["snakemake", "all"])
    assert again is not None
    assert not lock.exists()
    again.close()


@pytest.mark.parametrize("word", ["-n", "--lint", "--mode"])
def test_looking_changes_nothing(tmp_path: Path, word: str) -> None:
    lock = leave_lock(tmp_path)
    assert clear_stale_locks(tmp_path, ["snakemake", word]) is None
    assert lock.exists()
