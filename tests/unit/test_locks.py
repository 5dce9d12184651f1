"""A lock has one holder, its file can be cleared away, and a place without locks is told."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
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


def test_locks_are_asked_for_as_nfs_allows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS 4 refuses a shared lock on a file not open for reading, and an exclusive one without writing."""
    own = fcntl.flock

    def strict(handle: Any, kind: int) -> None:
        mode = fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE
        refused = os.O_WRONLY if kind & fcntl.LOCK_SH else os.O_RDONLY
        if mode == refused:
            raise OSError(errno.EBADF, "Bad file descriptor")
        own(handle, kind)

    monkeypatch.setattr(locks.fcntl, "flock", strict)
    for shared in (True, False):
        with locked(tmp_path / "lock", shared=shared):
            pass
    with unless_locked(tmp_path / "lock") as free:
        assert free


ASK = """
import os, sys
from pathlib import Path
from winnow.locks import require_locks
os.getpid = lambda: 7
for _ in range(40):
    require_locks(Path(sys.argv[1]))
"""


def test_two_hosts_may_ask_at_once_with_one_process_number(tmp_path: Path) -> None:
    """In containers, process numbers are small and often equal."""
    asking = [
        subprocess.Popen([sys.executable, "-c", ASK, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in asking]
    assert [process.returncode for process in asking] == [0, 0], said
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
