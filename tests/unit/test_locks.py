"""A lock has one holder, its file can be cleared away, and a place without locks is told."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from winnow import locks
from winnow.errors import UserError
from winnow.locks import locked, require_locks, share_with_group, unless_locked
from winnow.store import write_atomic


def test_a_lock_file_that_is_cleared_away_locks_nothing_any_more(tmp_path: Path) -> None:
    """Or one process would hold the lock of the old file while another holds that of a new one."""
    path, order = tmp_path / "lock", []

    def second() -> None:
        with locked(path):
            order.append("second")
            with unless_locked(path) as free:
                assert not free

    with locked(path):
        thread = threading.Thread(target=second)
        thread.start()
        while not _waits_for(path):
            assert thread.is_alive()
        path.unlink()
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    with unless_locked(path) as free:
        assert free


def _waits_for(path: Path) -> bool:
    inode = str(path.stat().st_ino)
    return any("->" in line and f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines())


def test_a_folder_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process is a real one: it gets the lock that the first one only seems to hold."""
    require_locks(tmp_path)
    monkeypatch.setattr(locks.fcntl, "flock", lambda *_: None)
    with pytest.raises(UserError, match="two processes got the lock on one file"):
        require_locks(tmp_path)

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with pytest.raises(UserError, match="cannot be locked here"):
        require_locks(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("mode", "expected"), [(0o2775, 0o660), (0o755, 0o600)])
def test_files_are_for_the_group_where_the_store_is(tmp_path: Path, mode: int, expected: int) -> None:
    tmp_path.chmod(mode)
    before = os.umask(0o077)
    try:
        share_with_group(tmp_path)
        write_atomic(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == expected
