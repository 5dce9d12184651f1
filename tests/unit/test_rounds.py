"""Which limits of Snakemake's scheduler are taken from it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.scheduling.job_scheduler import JobRateLimiter
from snakemake.settings.types import MaxJobsPerTimespan, SchedulingSettings

from winnow.plan.rounds import end_idle_rounds


def limiter(text: str) -> JobRateLimiter:
    return JobRateLimiter(MaxJobsPerTimespan.parse_choice(text))


@pytest.mark.parametrize(("text", "kept"), [("100/1s", False), ("10/1s", True), ("100/1m", True)])
def test_only_the_default_goes(text: str, kept: bool) -> None:
    scheduler: Any = SimpleNamespace(job_rate_limiter=limiter(text))
    end_idle_rounds(scheduler)
    assert (scheduler.job_rate_limiter is not None) == kept


def test_a_scheduler_without_a_limit_stays_as_it_is() -> None:
    scheduler: Any = SimpleNamespace(job_rate_limiter=None)
    end_idle_rounds(scheduler)
    assert scheduler.job_rate_limiter is None and SchedulingSettings().max_jobs_per_timespan is None


def test_the_default_is_still_snakemake_s() -> None:
    from snakemake.cli import get_argument_parser

    given = get_argument_parser().parse_args([]).max_jobs_per_timespan
    assert (given.max_jobs, given.timespan) == (100, 1)
