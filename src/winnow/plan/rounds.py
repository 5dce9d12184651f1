"""Snakemake's rounds: each time that its scheduler looks at all waiting jobs."""

from __future__ import annotations

from typing import Any

DEFAULT_LIMIT = (100, 1)
"""Jobs and seconds of Snakemake's own `--max-jobs-per-timespan`."""


def end_idle_rounds(scheduler: Any) -> None:
    """Take its default limit of jobs per second from a scheduler that is about to begin.

    With any limit, each round asks for another one a second later, and so does every job that ends. While
    jobs wait they add up, until a core does nothing else. At its default the limit holds back no machine that
    jobs of seconds run on; one that the user gives is kept. See docs/decisions/0024-rounds.md.
    """
    limit = scheduler.job_rate_limiter
    if limit is not None and (limit.max_jobs, limit.timespan) == DEFAULT_LIMIT:
        scheduler.job_rate_limiter = None
