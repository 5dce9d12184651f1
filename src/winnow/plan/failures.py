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
    """Keeps the logs of failed jobs, of which Snakemake's logger tells whoever listens.

    A job that fails and is then done at a later attempt has not failed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[int, list[str]] = {}

    @property
    def logs(self) -> dict[str, None]:
        """The logs of the jobs that failed last, each once, in the order of their failures."""
        return dict.fromkeys(log for logs in self.jobs.values() for log in logs)

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, Any] = vars(record)
        event = str(facts.get("event"))
        if event.endswith("job_finished"):
            self.jobs.pop(facts["job_id"], None)
        elif event.endswith(("job_error", "group_error")):
            for job in facts.get("job_error_info", [facts]):
                self.jobs[job["jobid"]] = [str(name) for name in job.get("log") or ()]

    def text(self) -> str:
        """Return the errors of all failed jobs: what follows a log's last `error: `, or its last line."""
        logs = list(self.logs)
        lines = [f"{name}:\n    {_error(Path(name))}" for name in logs[:MOST]]
        more = [f"and {len(logs) - MOST} more jobs"] if len(logs) > MOST else []
        count = "1 job" if len(logs) == 1 else f"{len(logs)} jobs"
        return "\n".join([f"{count} failed:", *lines, *more])


def _error(path: Path) -> str:
    try:
        lines = [line.rstrip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError as error:
        return f"its log cannot be read ({error.strerror})"
    starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    return "\n    ".join(lines[starts[-1] :] if starts else lines[-1:]) or "its log is empty"
