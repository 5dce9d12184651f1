"""Forecasts added up: per suite and stage, and for all suites with what they share counted once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from winnow.plan.graph import Graph
from winnow.rehearse.forecast import Forecast
from winnow.rehearse.schedule import Task, longest_path, makespan

UNION = "all suites"


@dataclass(frozen=True)
class Row:
    """One stage of a suite. `shared`: jobs that other suites use too; they are in each suite's sums.

    Hours are of one job at a time; `memory` and `device` are the largest job's, in GB, `disk` the sum.
    """

    suite: str
    stage: str
    jobs: int
    shared: int
    gpu_hours: float
    cpu_hours: float
    longest_hours: float
    memory: float
    device: float | None
    disk: float
    how: str


@dataclass(frozen=True)
class Span:
    """How long a suite takes: with the given GPUs and slots, and with any number (the chain's stages)."""

    suite: str
    hours: float
    least_hours: float
    chain: tuple[str, ...]


def rows(forecasts: Iterable[Forecast], graph: Graph, on_gpu: Mapping[str, bool]) -> list[Row]:
    """Return the rows of every suite in order, then those of all suites together.

    on_gpu: whether a stage's jobs hold a GPU.
    """
    jobs, found = list(forecasts), list[Row]()
    for suite in [*graph.cells, UNION]:
        mine = [job for job in jobs if suite == UNION or suite in graph.users[job.reference]]
        for stage in dict.fromkeys(job.stage for job in mine):
            found.append(_row(suite, [job for job in mine if job.stage == stage], graph, on_gpu[stage]))
    return found


def _row(suite: str, jobs: list[Forecast], graph: Graph, on_gpu: bool) -> Row:
    hours = sum(job.seconds for job in jobs) / 3600
    device = [job.device / 1e9 for job in jobs if job.device is not None]
    counted = Counter(job.how for job in jobs).most_common()
    return Row(
        suite=suite,
        stage=jobs[0].stage,
        jobs=len(jobs),
        shared=sum(len(graph.users[job.reference]) > 1 for job in jobs),
        gpu_hours=hours if on_gpu else 0.0,
        cpu_hours=0.0 if on_gpu else hours,
        longest_hours=max(job.seconds for job in jobs) / 3600,
        memory=max(job.host for job in jobs) / 1e9,
        device=max(device, default=None),
        disk=sum(job.files for job in jobs) / 1e9,
        how=", ".join(f"{how} {count}" for how, count in counted),
    )


def spans(
    forecasts: Iterable[Forecast], graph: Graph, on_gpu: Mapping[str, bool], gpus: int, slots: int
) -> list[Span]:
    """Return how long each suite takes by itself, and all of them together."""
    jobs, found = list(forecasts), list[Span]()
    for suite in [*graph.cells, UNION]:
        tasks = {
            job.reference: Task(
                job.seconds, on_gpu[job.stage], tuple(graph.nodes[job.reference].spec.inputs().values())
            )
            for job in jobs
            if suite == UNION or suite in graph.users[job.reference]
        }
        chain = longest_path(tasks)
        least = sum(tasks[name].seconds for name in chain) / 3600
        found.append(Span(suite, makespan(tasks, gpus, slots) / 3600, least, tuple(chain)))
    return found
