"""What the rules ask for their jobs, and the forecasts that do not fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from winnow.errors import UserError
from winnow.plan.code import ROOT
from winnow.rehearse.forecast import Forecast


@dataclass(frozen=True)
class Rule:
    """A stage's resources at the first attempt; None where its rule states none."""

    mem_mb: int | None
    runtime: int | None
    gpu: bool


@dataclass(frozen=True)
class Misfit:
    """Jobs of a stage that need more than there is: the worst of them, the amounts, and the fix."""

    stage: str
    what: str
    jobs: int
    worst: str
    needed: float
    limit: float
    unit: str
    fix: str


def read_rule(stage: str, root: Path = ROOT) -> Rule:
    """Return the resources that `rules/<stage>.smk` asks for; a missing file is a `UserError`."""
    path = root / "rules" / f"{stage}.smk"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there, so the limits of stage '{stage}' are unknown.") from error

    def number(key: str) -> int | None:
        found = re.search(rf"\b{key}\s*=\s*[^\d,\n]*(\d+)", text)
        return int(found.group(1)) if found else None

    return Rule(number("mem_mb"), number("runtime"), re.search(r"\bgpu\s*=\s*(?!0\b)", text) is not None)


def misfits(
    forecasts: Iterable[Forecast], rules: dict[str, Rule], device_bytes: float | None, disk_free: float
) -> list[Misfit]:
    """Return what will not fit: the device's memory, the rules' memory and runtime, the disk.

    device_bytes: memory of the GPU, or None where jobs run on processors.
    """
    jobs, found = list(forecasts), list[Misfit]()
    for stage in dict.fromkeys(job.stage for job in jobs):
        mine, rule = [job for job in jobs if job.stage == stage], rules[stage]
        smk = f"rules/{stage}.smk"
        memory, batch = "device memory", "a --card with more memory, or a smaller batch_size in the suite"
        limits = [
            _Limit(memory, lambda job: job.device or 0.0, device_bytes, 1e9, "GB", batch),
            _Limit("mem_mb", lambda job: job.host, _times(rule.mem_mb, 1e6), 1e6, "MB", f"mem_mb in {smk}"),
            _Limit(
                "runtime", lambda job: job.seconds, _times(rule.runtime, 60), 60, "min", f"runtime in {smk}"
            ),
        ]
        found += [misfit for limit in limits if (misfit := limit.check(stage, mine))]
    total = sum(job.files for job in jobs)
    if total > disk_free:
        fix = "free space, or `store` in config.yaml on another disk"
        found.append(Misfit("all", "disk", len(jobs), "-", total / 1e9, disk_free / 1e9, "GB", fix))
    return found


@dataclass(frozen=True)
class _Limit:
    what: str
    need: Callable[[Forecast], float]
    most: float | None
    one: float
    unit: str
    fix: str

    def check(self, stage: str, jobs: list[Forecast]) -> Misfit | None:
        over = [job for job in jobs if self.most is not None and self.need(job) > self.most]
        if not over or self.most is None:
            return None
        worst = max(over, key=self.need)
        return Misfit(
            stage,
            self.what,
            len(over),
            worst.reference,
            self.need(worst) / self.one,
            self.most / self.one,
            self.unit,
            self.fix,
        )


def _times(value: int | None, unit: float) -> float | None:
    return None if value is None else value * unit
