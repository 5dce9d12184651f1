"""Forecasts against what finished jobs recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from winnow.errors import UserError
from winnow.plan.specs import (
    DistillSpec,
    EvaluateSpec,
    PrepareSpec,
    Ref,
    SelectSpec,
    SignalSpec,
    Spec,
    TrainSpec,
)
from winnow.rehearse.forecast import Forecast

SPECS: tuple[type[Spec], ...] = (
    PrepareSpec,
    TrainSpec,
    SignalSpec,
    SelectSpec,
    DistillSpec,
    EvaluateSpec,
)


@dataclass(frozen=True)
class Finished:
    """A job of the store: its spec, what its provenance says of its cost, and the bytes of its files."""

    spec: Spec
    facts: dict[str, Any]
    files: int


@dataclass(frozen=True)
class Errors:
    """Relative errors |forecast - actual| / actual of one quantity over the jobs of a stage.

    ratio: the forecasts' sum over the actual one: errors of both signs cancel in it.
    """

    stage: str
    quantity: str
    jobs: int
    median: float
    ninety: float
    ratio: float


def finished_jobs(store: Path) -> dict[Ref, Finished]:
    """Return the finished jobs of a store, `<store>/<stage>/<id>`, whose inputs are finished too.

    Specs that this version does not read are left out: their jobs were planned by another one.
    """
    if not store.is_dir():
        raise UserError(f"{store}: there are no results to check against. Run this scale first.")
    found: dict[Ref, Finished] = {}
    for kind in SPECS:
        for folder in sorted((store / kind.stage).glob("*")):
            job = _finished(folder, kind)
            if job is not None:
                found[f"{kind.stage}/{folder.name}"] = job
    while True:
        kept = {
            name: job for name, job in found.items() if all(r in found for r in job.spec.inputs().values())
        }
        if len(kept) == len(found):
            return kept
        found = kept


def _finished(folder: Path, kind: type[Spec]) -> Finished | None:
    try:
        spec = kind.model_validate(json.loads((folder / "spec.json").read_text()))
        facts = json.loads((folder / "provenance.json").read_text())
        return Finished(spec, facts, sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()))
    except (OSError, ValueError, ValidationError):
        return None


@dataclass(frozen=True)
class Pair:
    """A forecast beside what a job recorded, in seconds or bytes.

    `time in the job` is the provenance's wall time, `time of the job` that of the whole process as Snakemake
    saw it.
    """

    job: Ref
    quantity: str
    forecast: float
    actual: float


def pairs(forecasts: Iterable[Forecast], actual: Mapping[Ref, Finished], benchmarks: Path) -> list[Pair]:
    """Return all that jobs recorded beside their forecasts; benchmarks: the folder of Snakemake's files."""
    return [
        Pair(job.reference, quantity, forecast, real)
        for job in forecasts
        for quantity, forecast, real in _quantities(job, actual[job.reference], benchmarks)
    ]


def errors(found: Iterable[Pair]) -> list[Errors]:
    """Return the errors per stage and for all jobs, of each quantity that was recorded."""
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for pair in found:
        for stage in (pair.job.split("/")[0], "all"):
            groups.setdefault((pair.quantity, stage), []).append((pair.forecast, pair.actual))
    return [_errors(stage, quantity, group) for (quantity, stage), group in groups.items()]


def _quantities(job: Forecast, done: Finished, benchmarks: Path) -> Iterable[tuple[str, float, float]]:
    yield "time in the job", job.wall_s, float(done.facts["wall_s"])
    whole = _benchmark(benchmarks / f"{job.reference}.tsv")
    if whole is not None:
        yield "time of the job", job.seconds, whole
    yield "files", job.files, float(done.files)
    yield "memory", job.host, float(done.facts["peak_rss_gb"]) * 2**30
    if job.device is not None and done.facts.get("peak_gpu_gb"):
        yield "device memory", job.device, float(done.facts["peak_gpu_gb"]) * 2**30


def _benchmark(path: Path) -> float | None:
    """Return the seconds of Snakemake's benchmark file, if there is one."""
    try:
        names, values = path.read_text().splitlines()[:2]
        return float(dict(zip(names.split("\t"), values.split("\t"), strict=True))["s"])
    except (OSError, ValueError, KeyError):
        return None


def _errors(stage: str, quantity: str, found: list[tuple[float, float]]) -> Errors:
    forecast, real = (np.array(column) for column in zip(*found, strict=True))
    relative = np.abs(forecast - real) / np.maximum(real, 1e-9)
    middle, ninety = np.quantile(relative, [0.5, 0.9])
    return Errors(
        stage, quantity, len(found), float(middle), float(ninety), float(forecast.sum() / real.sum())
    )
