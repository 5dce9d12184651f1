"""What a child process of a rehearsal does. It imports no torch before a stage does, which is timed too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from winnow.rehearse.cases import DistillCase, EvaluateCase, SelectCase, SignalCase, TrainCase
from winnow.rehearse.measures import DistillMeasure, StageMeasure, TrainMeasure
from winnow.train.engine.memory import keep_freed_memory

Case = TrainCase | SignalCase | SelectCase | EvaluateCase | DistillCase
Measure = TrainMeasure | StageMeasure | DistillMeasure


@dataclass(frozen=True)
class Family:
    """Cases of one plugin; `timed` says whether the time here counts, or another card is asked about."""

    cases: tuple[tuple[str, Case], ...]
    store: Path
    device: str
    budget_s: float
    timed: bool


def plugin_of(case: Case) -> str:
    """Return the name of the plugin that a case is about."""
    if isinstance(case, TrainCase):
        return case.trainer.name
    if isinstance(case, SignalCase):
        return case.signal.name
    return case.protocol.name if isinstance(case, EvaluateCase) else case.method.name


def measure_family(family: Family) -> list[tuple[str, Measure | str]]:
    """Measure the cases of one plugin, in a process that has done nothing else."""
    if not isinstance(family.cases[0][1], SelectCase):
        keep_freed_memory()  # as these jobs do
    found: list[tuple[str, Measure | str]] = []
    for number, (key, case) in enumerate(family.cases):
        try:
            found.append((key, _measure_one(case, family, number == 0)))
        except Exception as error:  # one case that cannot run must not hide what the others cost
            found.append((key, f"{plugin_of(case)}: {type(error).__name__}: {error}"))
    return found


def _measure_one(case: Case, family: Family, is_first: bool) -> Measure:
    place = (family.store, family.device, family.budget_s)
    if isinstance(case, TrainCase):
        from winnow.rehearse.training import measure_training

        return measure_training(case, *place, is_first, family.timed)
    if isinstance(case, DistillCase):
        from winnow.rehearse.distilling import measure_distillation

        return measure_distillation(case, family.device, family.budget_s, family.timed)
    from winnow.rehearse import stages

    if isinstance(case, SignalCase):
        return stages.measure_signal(case, *place, family.timed)
    if isinstance(case, SelectCase):
        return stages.measure_selection(case, *place)
    return stages.measure_evaluation(case, *place, family.timed)
