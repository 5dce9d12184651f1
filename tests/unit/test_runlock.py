"""Stale locks are cleared for a run, and never under a live one."""

from __future__ import annotations

from pathlib import Path

import pytest

from winnow.plan.runlock import clear_stale_locks, hold


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


def test_after_a_run_on_another_host_nothing_is_cleared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Locks are not shared between hosts everywhere: that run may be alive."""
    lock = leave_lock(tmp_path)
    (tmp_path / "running").write_text("login7")
    running = clear_stale_locks(tmp_path, ["snakemake", "all"])
    assert running is not None
    assert lock.exists()
    assert "started on login7" in capsys.readouterr().err
    assert (tmp_path / "running").read_text() == "login7"
    running.close()


SQUEUE = """#!/bin/sh
test -f {folder}/cancelled && grep -q 11 {folder}/cancelled && exit 0
echo '11|winnow_5e2|{clone}'
echo '12|winnow_5e2|/elsewhere'
echo '13|other|{clone}'
"""


def test_a_dead_runs_cluster_jobs_are_cancelled_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clone, programs = tmp_path / "clone", tmp_path / "bin"
    (clone / ".snakemake").mkdir(parents=True)
    programs.mkdir()
    (programs / "squeue").write_text(SQUEUE.format(folder=tmp_path, clone=clone))
    (programs / "scancel").write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/cancelled\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    running = clear_stale_locks(clone / ".snakemake", ["snakemake", "all"])
    assert running is not None
    running.close()
    assert (tmp_path / "cancelled").read_text() == "11\n"
    assert "1 cluster jobs" in capsys.readouterr().err


def test_only_one_holds_it(tmp_path: Path) -> None:
    held = hold(tmp_path)
    assert held is not None
    assert hold(tmp_path) is None
    held.close()
    assert hold(tmp_path) is not None


@pytest.mark.parametrize("word", ["-n", "-np", "-Fn", "--dry-run", "--lint", "--mode", "--summary", "-D"])
def test_looking_changes_nothing(tmp_path: Path, word: str) -> None:
    lock = leave_lock(tmp_path)
    assert clear_stale_locks(tmp_path, ["snakemake", word]) is None
    assert lock.exists()
