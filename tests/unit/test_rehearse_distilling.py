"""Rehearsals of distillations: what is followed from small sizes is what larger ones take."""

from __future__ import annotations

import itertools
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from winnow import registry
from winnow.distill.rded import RDEDParams
from winnow.models.engine import planes
from winnow.plan.specs import Plugged
from winnow.rehearse import distilling
from winnow.rehearse.cases import DistillCase
from winnow.rehearse.counting import Tally
from winnow.rehearse.distilling import _view, measure_distillation
from winnow.rehearse.standin import Look

NET = Plugged(name="convnet", params={"depth": 2, "width": 8, "norm": "instance"})
TAUGHT = Plugged(name="convnet", params={"depth": 2, "width": 8, "norm": "batch"})
METHODS = [name for name in registry.names("distill") if name != "given"]  # its sets are in files


def make_case(name: str, budget: int = 20, **changes: Any) -> DistillCase:
    method = registry.load("distill", name, "")
    params = method.params(**{**method.variants[method.default_variant], **changes})
    needs = method.needs(params)
    return DistillCase(
        Plugged(name=name, params=params.model_dump(mode="json")),
        NET,
        Look((8, 8, 1), 5),
        n=400,
        budget=budget,
        width=6 if "targets" in needs else None,
        epochs=60 if "experts" in needs else 0,
        teacher=TAUGHT if "model" in needs else None,
    )


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_rehearsed(name: str) -> None:
    changes = {"candidates": 10} if name == "rded" else {}
    found = measure_distillation(make_case(name, **changes), "cpu", 0.05, timed=True)
    assert found.files > 0 and found.memory > 0
    params = make_case(name).method.params
    assert found.steps == params.get("iterations", 0) * params.get("rounds", 1)
    assert (found.step_s > 0) == (name != "rded")


@pytest.mark.parametrize("name", ["dm", "mtt", "mkdt", "dc", "ncfm"])
def test_counts_are_followed_to_those_of_the_real_size(name: str) -> None:
    """The operations of products are bilinear in length and examples, so that nothing is lost on the way, but
    that what NCFM does once for all classes is taken as often as there are parts of two.
    """
    sizes: dict[str, Any] = {"augment": ""}
    fields = registry.load("distill", name, "").params.model_fields
    sizes |= {"batch_real": 48} if "batch_real" in fields else {}
    sizes |= {"factor": 1} if "factor" in fields else {}
    sizes |= {"student_steps": 5, "batch_size": None} if "student_steps" in fields else {}
    sizes |= {"epochs": 3} if "epochs" in fields else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("winnow.rehearse.distilling.FEW", 2)
        followed = measure_distillation(make_case(name, budget=20, **sizes), "cpu", 0.05, timed=False)
    with pytest.MonkeyPatch.context() as patch:
        # A box that begins at the real size has nothing to follow.
        patch.setattr("winnow.rehearse.distilling.REAL", 48)
        patch.setattr("winnow.rehearse.distilling._Box._run", at_size(sizes, 20))
        real = measure_distillation(make_case(name, budget=20, **sizes), "cpu", 0.05, timed=False)
    assert followed.step.flops == pytest.approx(real.step.flops, rel=0.05 if name == "ncfm" else 0.02)


def test_counting_keeps_nothing_of_what_a_network_computes() -> None:
    with distilling._countable(timed=False):
        outputs = torch.zeros(3)
        seen = weakref.ref(outputs)
        assert not planes.suits(outputs)
        del outputs
        assert seen() is None


def test_a_case_whose_small_runs_were_seen_before_needs_as_much_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peaks = itertools.count(10**9, 10**6)
    monkeypatch.setattr(distilling, "peak_memory", lambda: float(next(peaks)))
    monkeypatch.setattr(distilling, "_SEEN", {})
    case = make_case("dm", budget=20)
    first, again = (measure_distillation(case, "cpu", 0.05, timed=False) for _ in range(2))
    assert first.device == again.device > 10**6


@pytest.mark.parametrize("classes", [5, 40])
def test_a_method_that_learns_nothing_counts_as_much_as_all_its_classes(classes: int) -> None:
    case = replace(make_case("rded", budget=2 * classes, candidates=4), look=Look((8, 8, 1), classes))
    view = _view(case, torch.device("cpu"), Path())
    with Tally() as tally:
        registry.load("distill", "rded", "").function(RDEDParams(candidates=4), view)
    found = measure_distillation(case, "cpu", 0.05, timed=False)
    assert found.steps == 1 and found.repetition_s == 0
    assert found.step.flops == tally.flops > 0
    assert found.step.operations == pytest.approx(
        tally.operations, rel=0.25
    )  # each class beside what all share


def at_size(sizes: dict[str, Any], budget: int) -> Any:
    """Return a small run that is not small: the same at every corner."""

    def run(box: Any, function: Any, *_: Any) -> Any:
        return box._iterate(function, budget, {**sizes, "max_start": 1, "expert_epochs": 1})

    return run


def test_stand_ins_leave_the_engine_as_it_was() -> None:
    from winnow.distill.engine import kernel, trajectories
    from winnow.distill.engine.convnet_student import student_of
    from winnow.train.engine.loop import Loop

    begin, run = kernel.Pool.begin, Loop.run
    measure_distillation(make_case("mtt"), "cpu", 0.05, timed=False)
    assert trajectories.student_of is student_of and kernel.Pool.begin is begin and Loop.run is run
    assert torch.is_grad_enabled()


def test_looks_at_all_real_images_count_by_how_often_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rare, often = (
        measure_distillation(
            make_case("dream", cluster_every=every, train_on=20, epochs=1), "cpu", 0.05, timed=False
        ).step.operations
        for every in (50, 2)
    )
    assert often > 1.02 * rare
