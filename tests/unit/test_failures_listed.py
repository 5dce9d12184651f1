"""The list of what failed, at the end of a run."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from winnow.plan.failures import MOST, Failures


def told(*logs: list[str], event: str = "job_error") -> Failures:
    """Return what was heard of jobs with these logs."""
    failures, logger = Failures(), logging.Logger("test")
    logger.addHandler(failures)
    for number, names in enumerate(logs):
        logger.error("Error in rule x", extra={"event": event, "log": names, "jobid": number})
    return failures


def test_each_failed_job_is_named_with_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.log").write_text("error: old\nresumed\nerror: a.npy is damaged.\n  Run again.\n\n")
    Path("b.log").write_text("Traceback\nMemoryError\n")
    Path("c d.log").write_text("")
    assert told(["a.log"], ["b.log"], ["a.log"], ["c d.log", "gone.log"], []).text().splitlines() == [
        "4 jobs failed:",
        "a.log:",
        "    error: a.npy is damaged.",
        "      Run again.",
        "b.log:",
        "    MemoryError",
        "c d.log:",
        "    its log is empty",
        "gone.log:",
        "    its log cannot be read (No such file or directory)",
    ]
    assert not told(["a.log"], event="job_info").logs


def test_a_job_that_a_later_attempt_has_done_is_not_listed() -> None:
    failures = told(["a.log"], ["b.log"])
    done = logging.LogRecord("test", logging.INFO, "", 0, "Finished", None, None)
    done.event, done.job_id = "job_finished", 0  # type: ignore[attr-defined]
    failures.emit(done)
    assert list(failures.logs) == ["b.log"]


def test_many_failures_are_counted() -> None:
    assert told([f"{n}.log" for n in range(MOST + 3)]).text().endswith("and 3 more jobs")
