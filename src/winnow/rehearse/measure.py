"""Rehearse every case of a plan, each plugin in a process of its own: what happens at first use is seen."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from winnow import warm
from winnow.canonical import sha256_file
from winnow.errors import UserError
from winnow.plan.code import SOURCE
from winnow.plan.specs import DistillSpec, EvaluateSpec, Ref, SelectSpec, SignalSpec, Spec, TrainSpec
from winnow.rehearse.book import Book, encodes, loads_models, reads_experts
from winnow.rehearse.cases import DistillCase, EvaluateCase, SelectCase, SignalCase
from winnow.rehearse.child import Case, Family, measure_family, plugin_of
from winnow.rehearse.clock import Watch
from winnow.rehearse.measures import Start

MODULES = {
    "prepare": "winnow.data.prepare",
    "train": "winnow.train.engine.run",
    "signals": "winnow.signals.engine.run",
    "selection": "winnow.select.engine.run",
    "distill": "winnow.distill.engine.run",
    "evaluate": "winnow.evaluate.engine.run",
}
TOGETHER, ALIKE = 6, 60
"""Cases of one plugin that a process measures: each process pays for its imports again. Distillations that
differ in their size share most of the work.
"""


def rehearse(
    specs: Mapping[Ref, Spec], device: str, budget_s: float, processes: int, timed: bool = True
) -> Book:
    """Measure every distinct case of the specs on stand-ins and return the book that knows them.

    device: as in the configuration. budget_s: seconds for one case. processes: measured at once. timed:
    whether the steps of trainings are timed; for another card than this machine's, counting is enough.
    """
    book, threads = Book(specs), os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # as the rules give every job one thread
    try:
        with (
            tempfile.TemporaryDirectory(prefix="winnow-rehearsal-") as folder,
            _Stage(book, processes, (Path(folder), device, budget_s, timed)) as stage,
        ):
            warm_jobs = timed and warm.is_possible()
            book.measures.starts = {
                name: _start(module, Path(folder), warm_jobs) for name, module in MODULES.items()
            }
            book.measures.hash_rate = _hash_rate(Path(folder))
            stage.play("train", _train_cases(book))
            while cases := _signal_cases(book):
                stage.play("signals", cases)
            stage.play("selections", _select_cases(book))
            stage.play("distillations", _distill_cases(book))
            stage.play("evaluations", _evaluate_cases(book))
    finally:
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = threads
    return book


class _Stage:
    """Plays cases in child processes and enters what they show in the book."""

    def __init__(self, book: Book, processes: int, how: tuple[Path, str, float, bool]) -> None:
        self.book, self.how = book, how
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(processes, mp_context=context, max_tasks_per_child=1)
        self.bar = tqdm(total=0, desc="rehearsal", unit="case", mininterval=1)

    def __enter__(self) -> _Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)
        self.bar.close()

    def play(self, what: str, cases: Mapping[str, Case]) -> None:
        self.bar.set_description(f"rehearsal: {what}")
        self.bar.total = (self.bar.total or 0) + len(cases)
        self.bar.refresh()
        families = [Family(tuple(part), *self.how) for part in _families(cases)]
        futures = {self.pool.submit(measure_family, family): family for family in families}
        for future in as_completed(futures):
            try:
                measured = future.result()
            except BrokenProcessPool as error:
                raise UserError(
                    f"rehearsal of {what}: a process was killed, most likely for want of memory. Rehearse "
                    "suite by suite, --settings '{\"suites\": [...]}', or on a larger machine."
                ) from error
            for key, found in measured:
                self.book.measures.enter(key, found)
            self.bar.update(len(futures[future].cases))
        _share_first(self.book, cases)


def _families(cases: Mapping[str, Case]) -> Iterable[list[tuple[str, Case]]]:
    groups: dict[str, list[tuple[str, Case]]] = defaultdict(list)
    for key, case in cases.items():
        groups[plugin_of(case)].append((key, case))
    for group in groups.values():
        count = ALIKE if isinstance(group[0][1], DistillCase) else TOGETHER
        for begin in range(0, len(group), count):
            yield group[begin : begin + count]


def _share_first(book: Book, cases: Mapping[str, Case]) -> None:
    """Give all cases of a plugin what its first one took at first use; the others came after it."""
    first: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    known: dict[str, Any] = {**book.measures.train, **book.measures.stages, **book.measures.distill}
    for key, case in cases.items():
        if key in known:
            own = (known[key].first_s, known[key].imported_s)
            first[plugin_of(case)] = max(first[plugin_of(case)], own)
    for key, case in cases.items():
        if key in known:
            first_s, imported_s = first[plugin_of(case)]
            book.measures.enter(key, replace(known[key], first_s=first_s, imported_s=imported_s))


def _start(module: str, folder: Path, warm_jobs: bool) -> Start:
    """Time a process that imports what a stage's script imports, and does nothing.

    warm_jobs: time too how long that takes where another one has loaded the libraries before.
    """
    script = folder / "start.py"
    script.write_text(f"import winnow.stage, {module}, winnow.rehearse.clock as c; print(c.peak_memory())")
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}

    def seconds(*through: str) -> tuple[float, float]:
        words = [sys.executable, *through, str(script)]
        watch = Watch()
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        return (watch.wall if through else watch.seconds), float(done.stdout)

    cold_s, memory = seconds()
    if not warm_jobs:
        return Start(cold_s, memory)
    server = ("-IS", warm.__file__, f"winnow-rehearsal-{os.getpid()}", str(os.getpid()))
    seconds(*server)
    return Start(cold_s, memory, min(seconds(*server)[0] for _ in range(3)))


def _hash_rate(folder: Path) -> float:
    """Return the bytes per second at which a file is checked against its sha256."""
    path, size = folder / "hashed", 2**26
    path.write_bytes(bytes(size))
    watch = Watch()
    sha256_file(path)
    path.unlink()
    return size / watch.wall


def _train_cases(book: Book) -> dict[str, Case]:
    """Return the trainings, and those that rankings do themselves."""
    cases: dict[str, Case] = {}
    for spec in book.specs.values():
        if isinstance(spec, TrainSpec):
            cases[book.train_key(spec)] = book.train_case(spec)
        elif isinstance(spec, EvaluateSpec) and spec.judge is not None:
            cases[book.judge_key(spec)] = book.judge_case(spec)
    return cases


def _signal_cases(book: Book) -> dict[str, Case]:
    """Return the signals that were not rehearsed yet and whose inputs were."""
    cases: dict[str, Case] = {}
    for spec in (spec for spec in book.specs.values() if isinstance(spec, SignalSpec)):
        proxies, key, n = book.proxies(spec), book.signal_key(spec), book.pool(spec.data)
        arrays = {}
        for name, reference in spec.uses.items():
            use = book.specs[reference]
            if isinstance(use, SignalSpec) and book.signal_key(use) in book.measures.stages:
                arrays[name] = (book.signal_key(use), book.measures.stages[book.signal_key(use)])
        if reads_experts(spec.signal):
            arrays = {}  # stand-in experts learn labels, which costs what regressing does
        # Other data, as of a target, are left out: the validation split of the stand-in stands for them.
        wanted = sum(isinstance(book.specs[use], SignalSpec | TrainSpec) for use in spec.uses.values())
        ready = len(arrays) + len(proxies) == wanted or reads_experts(spec.signal)
        trained = all(book.train_key(proxy) in book.measures.train for proxy in proxies)
        if ready and trained and not book.measures.knows(key):
            n = max(n, cases[key].n) if key in cases else n  # type: ignore[union-attr]
            references = tuple(book.train_case(proxy).reference for proxy in proxies)
            runs = loads_models(spec.signal)
            cases[key] = SignalCase(spec.signal, book.look(spec.data), references, runs, arrays, n)
    return cases


def _select_cases(book: Book) -> dict[str, Case]:
    """Return the selections to rehearse; of several fractions the smallest and the largest."""
    cases: dict[str, SelectCase] = {}
    families: dict[str, str] = {}
    for spec in (spec for spec in book.specs.values() if isinstance(spec, SelectSpec)):
        keys = {
            name: book.signal_key(use)
            for name, reference in spec.signals.items()
            if isinstance(use := book.specs[reference], SignalSpec)
        }
        if all(key in book.measures.stages for key in keys.values()):
            key, n = book.select_key(spec), book.pool(spec.data)
            n = max(n, cases[key].n) if key in cases else n
            signals = {name: (own, book.measures.stages[own]) for name, own in keys.items()}
            if spec.fraction is not None:
                family = book.family(spec)
                least, most = book.measures.fractions.get(family, (spec.fraction, spec.fraction))
                book.measures.fractions[family] = (min(least, spec.fraction), max(most, spec.fraction))
                families[key] = family
            cases[key] = SelectCase(
                spec.method, spec.variant, book.look(spec.data), signals, n, spec.fraction
            )
    return {
        key: case
        for key, case in cases.items()
        if case.fraction is None or case.fraction in book.measures.fractions[families[key]]
    }


def _distill_cases(book: Book) -> dict[str, Case]:
    """Return the distillations whose targets were rehearsed, if they have any."""
    cases: dict[str, Case] = {}
    for spec in (spec for spec in book.specs.values() if isinstance(spec, DistillSpec)):
        case = book.distill_case(spec)
        if case is not None:
            cases[book.distill_key(spec)] = case
    return cases


def _evaluate_cases(book: Book) -> dict[str, Case]:
    cases: dict[str, Case] = {}
    specs = (spec for spec in book.specs.values() if isinstance(spec, EvaluateSpec))
    for spec in (spec for spec in specs if spec.judge is None):
        subject, key = book.specs[spec.subject], book.evaluate_key(spec)
        trained, width = None, 0
        if isinstance(subject, TrainSpec):
            if book.train_key(subject) not in book.measures.train:
                continue
            trained = book.train_case(subject).reference
            width = book.measures.train[book.train_key(subject)].width
        n = book.sizes(spec.data)["train"] if encodes(spec.protocol) else 0
        n = max(n, cases[key].n) if key in cases else n  # type: ignore[union-attr]
        cases[key] = EvaluateCase(spec.protocol, spec.version, book.look(spec.data), trained, width, n)
    return cases
