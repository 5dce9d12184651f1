"""What a run that failed says at its end: the error of each job, by its log.

Snakemake shows failed logs too, but not where it was told to be quiet about jobs, and far above the end where
others went on.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

MOST = 20
"""Failed jobs that are listed; the others are counted."""


class Failures(logging.Handler):
    """Keeps the logs of failed jobs, of which Snakemake's logger tells whoever listens."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, Any] = vars(record)
        if str(facts.get("event")).endswith(("job_error", "group_error")):
            jobs = facts.get("job_error_info", [facts])
            self.logs |= dict.fromkeys(str(name) for job in jobs for name in job.get("log") or ())

    def text(self) -> str:
        """Return the errors of all failed jobs: what follows a log's last `error: `, or its last line."""
        lines = [f"{name}:\n    {_error(Path(name))}" for name in list(self.logs)[:MOST]]
        more = [f"and {len(self.logs) - MOST} more jobs"] if len(self.logs) > MOST else []
        count = "1 job" if len(self.logs) == 1 else f"{len(self.logs)} jobs"
        return "\n".join([f"{count} failed:", *lines, *more])


def _error(path: Path) -> str:
    try:
        lines = [line.rstrip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError as error:
        return f"its log cannot be read ({error.strerror})"
    starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    return "\n    ".join(lines[starts[-1] :] if starts else lines[-1:]) or "its log is empty"
