"""Jobs on one machine share no GPU: each takes its own, waits for it, and frees it however it ends."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from winnow.errors import UserError
from winnow.train.engine import cards

HOLD = """
import sys, time
from pathlib import Path
from winnow.train.engine import cards
cards.FOLDER = Path(sys.argv[1])
print(",".join(cards.take(sys.argv[2].split(","), int(sys.argv[3]))), flush=True)
time.sleep(60)
"""


class Holder:
    """A process that takes cards and keeps them until it is killed."""

    def __init__(self, folder: Path, names: str, count: int = 1, allocation: str | None = None) -> None:
        command = [sys.executable, "-c", HOLD, str(folder), names, str(count)]
        environment = {key: value for key, value in os.environ.items() if key != cards.ALLOCATION}
        environment |= {cards.ALLOCATION: allocation} if allocation else {}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def cards(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def waits(self) -> str:
        assert self.process.stderr
        return self.process.stderr.readline()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cards"


@pytest.fixture
def hold(folder: Path) -> Iterator[type]:
    started: list[Holder] = []

    class Started(Holder):
        def __init__(self, names: str, count: int = 1, allocation: str | None = None) -> None:
            super().__init__(folder, names, count, allocation)
            started.append(self)

    yield Started
    for holder in started:
        holder.kill()


def test_two_jobs_get_two_cards_and_a_third_waits_for_a_killed_one(hold: type) -> None:
    first, second = hold("0,1"), hold("0,1")
    got = {first.cards(): first, second.cards(): second}
    assert sorted(got) == ["0", "1"]
    third = hold("0,1")
    assert "0, 1 are not free" in third.waits()
    got["1"].kill()
    assert third.cards() == "1"


def test_several_cards_are_taken_at_once_or_not_at_all(hold: type) -> None:
    """One that waits for two cards holds none meanwhile: another may take the free one."""
    first = hold("0,1")
    assert first.cards() == "0"
    both = hold("0,1", 2)
    both.waits()
    single = hold("0,1")
    assert single.cards() == "1"
    single.kill()
    first.kill()
    assert both.cards() == "0,1"


def test_a_process_sees_only_what_it_took(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "FOLDER", folder)
    monkeypatch.setattr(cards, "_HELD", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-aa/1")
    cards.claim_cards(present=2, wanted=1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-aa/1"
    cards.claim_cards(present=2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-aa/1"


def test_slurm_jobs_have_cards_of_their_own_and_share_none_within(hold: type) -> None:
    """Two jobs on one node both call their card 0; two processes in one job must not both take it."""
    first, second = hold("0", allocation="7"), hold("0", allocation="8")
    assert (first.cards(), second.cards()) == ("0", "0")
    third = hold("0", allocation="7")
    assert "not free" in third.waits()


def test_a_link_in_the_place_of_locks_is_not_followed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder for temporary files is everybody's: a link there may point to this user's private file."""
    monkeypatch.setattr(cards, "_HELD", [])
    monkeypatch.setenv(cards.ALLOCATION, "7")
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "key").touch(mode=0o600)
    monkeypatch.setattr(cards, "FOLDER", folder)
    lock = folder / "7" / "0.lock"
    for link, target in ((folder, private), (folder / "7", private), (lock, private / "key")):
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(target)
        with pytest.raises(UserError, match=f"{link}: a link"):
            cards.take(["0"], 1)
        link.unlink()
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert stat.S_IMODE((private / "key").stat().st_mode) == 0o600
        assert [path.name for path in private.iterdir()] == ["key"]


def test_a_lock_that_is_there_is_opened_without_creating_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux refuses to create, where it is there, another user's file in a folder like /tmp."""
    monkeypatch.setattr(cards, "FOLDER", folder)
    monkeypatch.setattr(cards, "_HELD", [])
    cards.take(["5"], 1)
    cards._HELD.pop().close()
    own = os.open

    def protected(path: Path, flags: int, *rest: int) -> int:
        if flags & os.O_CREAT and os.path.exists(path):
            raise PermissionError(errno.EACCES, "fs.protected_regular", str(path))
        return own(path, flags, *rest)

    monkeypatch.setattr(os, "open", protected)
    assert cards.take(["5"], 1) == ["5"]
    cards._HELD.pop().close()


def test_locks_can_be_taken_by_other_users(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "FOLDER", folder)
    monkeypatch.setattr(cards, "_HELD", [])
    monkeypatch.delenv(cards.ALLOCATION, raising=False)
    cards.take(["5"], 1)
    assert (folder / "machine" / "5.lock").stat().st_mode & 0o777 == 0o666
    assert (folder / "machine").stat().st_mode & 0o1777 == 0o1777
