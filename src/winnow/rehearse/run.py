"""What `scripts/rehearse.py` does: rehearse, add up, print, write."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from winnow.errors import UserError
from winnow.plan.plan import STAGES, Plan
from winnow.plan.specs import Ref, Spec
from winnow.rehearse.book import Book
from winnow.rehearse.cards import Card, load_card
from winnow.rehearse.check import Errors, Pair, errors, finished_jobs, pairs
from winnow.rehearse.forecast import Forecast, Forecaster
from winnow.rehearse.limits import Misfit, misfits, read_rule
from winnow.rehearse.measure import rehearse
from winnow.rehearse.table import Row, Span, rows, spans
from winnow.store import write_atomic


@dataclass(frozen=True)
class Options:
    """card: a card's name or `here`. gpus, cores: jobs at once. seconds: budget of one case."""

    card: str
    gpus: int
    cores: int
    seconds: float
    output: Path

    def __post_init__(self) -> None:
        for name in ("gpus", "cores", "seconds"):
            if getattr(self, name) <= 0:
                raise UserError(f"--{name}: {getattr(self, name)} is not accepted. Accepted: more than 0.")


def rehearse_plan(plan: Plan, options: Options) -> None:
    """Rehearse all jobs of a plan; prints the tables and writes them to the output folder."""
    card = None if options.card == "here" else load_card(options.card)
    specs = {reference: node.spec for reference, node in plan.graph.nodes.items()}
    book = _measured(specs, plan.config.device, options, timed=card is None)
    forecaster = Forecaster(book, card)
    forecasts = list(forecaster.all())
    rules = {stage: read_rule(stage) for stage in STAGES}
    memory = card.entry.memory * 1e9 if card else _device_memory(plan.config.device)
    on_gpu = {stage: rule.gpu and memory is not None for stage, rule in rules.items()}
    free = shutil.disk_usage(_existing(Path(plan.config.store).absolute())).free
    table = rows(forecasts, plan.graph, on_gpu)
    times = spans(forecasts, plan.graph, on_gpu, options.gpus, options.cores)
    problems = misfits(forecasts, rules, memory, free)
    missing = {r: why for r, spec in specs.items() if (why := forecaster.missing(spec)) is not None}
    print(f"scale {plan.config.scale}, on {_device_words(card, memory)}\n")
    for suite in dict.fromkeys(row.suite for row in table):
        _show(suite, [row for row in table if row.suite == suite], times, options, memory is not None)
    _show_problems(problems, missing)
    _write(options.output, plan, card, table, times, problems, missing, forecasts)
    print(f"\nwritten: {options.output}/rehearsal.json and rehearsal.csv")


def check(plan: Plan, options: Options) -> None:
    """Rehearse the finished jobs of the plan's store and print how far the forecasts are off."""
    if options.card != "here":
        raise UserError(f"--card {options.card}: forecasts are checked where the jobs ran; leave it out.")
    store = plan.config.scale_folder
    done = finished_jobs(store)
    book = _measured({reference: job.spec for reference, job in done.items()}, plan.config.device, options)
    forecasts = list(Forecaster(book).all())
    beside = pairs(forecasts, done, store / "benchmarks")
    found = errors(beside)
    print(f"{len(forecasts)} finished jobs of {store}: relative error of the forecasts\n")
    print(f"{'quantity':<18}{'stage':<12}{'jobs':>6}{'median':>9}{'90 %':>9}{'sum / actual sum':>18}")
    for error in sorted(found, key=_in_order):
        numbers = f"{error.jobs:>6}{error.median:>9.0%}{error.ninety:>9.0%}{error.ratio:>18.2f}"
        print(f"{error.quantity:<18}{error.stage:<12}{numbers}")
    for why in sorted(set(book.measures.failed.values())):
        print(f"not rehearsed: {why}")
    text = json.dumps([asdict(error) for error in found], indent=1) + "\n"
    options.output.mkdir(parents=True, exist_ok=True)
    write_atomic(options.output / "check.json", text.encode())
    _write_csv(options.output / "check.csv", Pair, beside)
    print(f"\nwritten: {options.output}/check.json, and check.csv with a row per job")


def _in_order(error: Errors) -> tuple[str, int]:
    return error.quantity, [*STAGES, "all"].index(error.stage)


def _measured(specs: Mapping[Ref, Spec], device: str, options: Options, timed: bool = True) -> Book:
    has_gpu = _device_memory(device) is not None
    return rehearse(specs, device, options.seconds, 1 if has_gpu else min(2, os.cpu_count() or 1), timed)


def _device_memory(device: str) -> float | None:
    """Return the bytes of the GPU that jobs would run on here, or None where there is none."""
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return None
    return float(torch.cuda.get_device_properties(0 if device == "auto" else device).total_memory)


def _device_words(card: Card | None, memory: float | None) -> str:
    if card is None:
        return "this machine's processor" if memory is None else "this machine's GPU"
    share = card.assumed.compute
    return f"{card.entry.title} at {share:.0%} of its public peak, beside this machine's processor"


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _show(suite: str, table: list[Row], times: list[Span], options: Options, on_gpu: bool) -> None:
    print(suite if suite.startswith("all") else f"suite {suite}")
    print(
        f"{'stage':<11}{'jobs':>6}{'shared':>8}{'GPU h':>9}{'CPU h':>9}{'longest h':>11}{'device GB':>11}"
        f"{'memory GB':>11}{'disk GB':>9}  how"
    )
    for row in table:
        device = "-" if row.device is None else f"{row.device:.1f}"
        print(
            f"{row.stage:<11}{row.jobs:>6}{row.shared:>8}{row.gpu_hours:>9.2f}{row.cpu_hours:>9.2f}"
            f"{row.longest_hours:>11.2f}{device:>11}{row.memory:>11.1f}{row.disk:>9.2f}  {row.how}"
        )
    gpu, cpu, disk = (sum(getattr(row, name) for row in table) for name in ("gpu_hours", "cpu_hours", "disk"))
    counts = f"{sum(row.jobs for row in table):>6}{sum(row.shared for row in table):>8}"
    print(f"{'total':<11}{counts}{gpu:>9.2f}{cpu:>9.2f}{'':>33}{disk:>9.2f}")
    span = next(span for span in times if span.suite == suite)
    room = f"{options.cores} jobs at once" + (f" and {options.gpus} GPUs" if on_gpu else "")
    chain = " -> ".join(name.split("/")[0] for name in span.chain)
    print(f"{span.hours:.2f} h with {room}; never less than {span.least_hours:.2f} h ({chain})\n")


def _show_problems(problems: list[Misfit], missing: Mapping[Ref, str]) -> None:
    print(
        "What will not fit:"
        if problems
        else "Everything fits: device, mem_mb and runtime of the rules, disk."
    )
    for p in problems:
        amounts = f"{p.needed:.0f} of {p.limit:.0f} {p.unit}"
        print(f"  {p.stage}: {p.what}: {p.jobs} jobs, worst {p.worst}: {amounts}. Change {p.fix}.")
    reasons = sorted(set(missing.values()))
    if missing:
        print(f"Not in the tables: {len(missing)} jobs that could not be rehearsed:")
    for reason in reasons:
        print(f"  {sum(why == reason for why in missing.values())} jobs: {reason}")


def _write(
    output: Path,
    plan: Plan,
    card: Card | None,
    table: list[Row],
    times: list[Span],
    problems: list[Misfit],
    missing: Mapping[Ref, str],
    forecasts: Iterable[Forecast],
) -> None:
    output.mkdir(parents=True, exist_ok=True)
    listed: dict[str, Any] = {
        "scale": plan.config.scale,
        "card": None if card is None else card.model_dump(mode="json"),
        "rows": [asdict(row) for row in table],
        "spans": [asdict(span) for span in times],
        "misfits": [asdict(problem) for problem in problems],
        "not_rehearsed": dict(missing),
        "jobs": [asdict(job) for job in forecasts],
    }
    write_atomic(output / "rehearsal.json", (json.dumps(listed, indent=1) + "\n").encode())
    _write_csv(output / "rehearsal.csv", Row, table)


def _write_csv(path: Path, kind: type[Row | Pair], table: Iterable[Row | Pair]) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in table)
    write_atomic(path, buffer.getvalue().encode())
