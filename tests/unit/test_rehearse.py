"""Rehearsal: counts against closed forms, lengths against the loop's own, schedules, sums, limits, files."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from test_supervised import make_task
from torch import nn

from winnow import registry
from winnow.errors import UserError
from winnow.evaluate.engine.view import EvaluationView
from winnow.plan.catalogue import load_catalogue
from winnow.plan.code import ROOT
from winnow.plan.estimate import estimate_stages
from winnow.plan.graph import Graph, Node
from winnow.plan.plan import STAGES, Plan, load_plan
from winnow.plan.specs import DistillSpec, EvaluateSpec, Plugged, PrepareSpec, SelectSpec, Spec, TrainSpec
from winnow.rehearse import stages
from winnow.rehearse.book import Book
from winnow.rehearse.cards import card_names, load_card
from winnow.rehearse.cases import EXAMPLES, EvaluateCase, SelectCase, SignalCase, TrainCase
from winnow.rehearse.check import errors, finished_jobs, pairs
from winnow.rehearse.clock import Watch, imports_watched
from winnow.rehearse.counting import count_forward, count_pass
from winnow.rehearse.forecast import Forecast, Forecaster, encoding_memory, memory_in_batches
from winnow.rehearse.limits import Rule, misfits, read_rule
from winnow.rehearse.measure import _start
from winnow.rehearse.measures import Counts, DistillMeasure, Fit, Measures, StageMeasure, Start, TrainMeasure
from winnow.rehearse.schedule import Task, longest_path, makespan
from winnow.rehearse.stages import measure_selection, measure_signal
from winnow.rehearse.standin import TEST, Look, Ran, data_reference, filling, make_data, run
from winnow.rehearse.table import UNION, rows, spans
from winnow.rehearse.training import measure_training
from winnow.select.engine.run import select_all
from winnow.train.engine import image_text
from winnow.train.engine.loop import Passes
from winnow.train.engine.run import train_all

CPU = torch.device("cpu")
LOOK = Look((8, 8, 1), 10)
DATA = data_reference(LOOK, EXAMPLES)
STARTS = dict.fromkeys(STAGES, Start(1.0, 1e8))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def prepare_spec(n: int = EXAMPLES, **changes: Any) -> PrepareSpec:
    entry = {
        "shape": [8, 8, 1], "classes": list("0123456789"), "splits": {"train": n, "test": TEST},
        "reader": "bundled", "files": [], "kind": "images",
    }  # fmt: skip
    fields: dict[str, Any] = {"limits": {}, "holdout": 0, "pool": ("train",), "root_seed": 0}
    return PrepareSpec(dataset="digits", entry=entry, **(fields | changes))


def train_spec(**changes: Any) -> TrainSpec:
    fields: dict[str, Any] = {
        "seeds": (0, 1), "root_seed": 0, "data": DATA, "subset": None, "budget": None, "fraction": 1.0,
        "trainer": Plugged(name="supervised", params={"crop": 1, "precision": "fp32", "record": True}),
        "model": Plugged(name="mlp", params={"depth": 1, "width": 16}),
        "epochs": 3, "steps_as": None, "min_steps": 0, "batch_size": 16,
        "proxy": None, "fold": None, "split": None,
    }  # fmt: skip
    return TrainSpec(**(fields | changes))


def book_of(**specs: Spec) -> Book:
    return Book({DATA: prepare_spec(), **specs}, Measures(starts=STARTS))


def measured(book: Book, spec: TrainSpec, folder: Path) -> TrainMeasure:
    found = measure_training(book.train_case(spec), folder, "cpu", 0.1, is_first=True)
    book.measures.train[book.train_key(spec)] = found
    return found


def test_a_trainer_without_steps_is_measured_at_two_sizes(tmp_path: Path) -> None:
    look = Look((3, 5, 1), 3, pixel_bytes=4)
    case = TrainCase(Plugged(name="linear_mmcl"), Plugged(name="linear"), 1, 100, look)
    found = measure_training(case, tmp_path, "cpu", 0.1, is_first=False)
    assert (found.how, found.step_s, found.forward_s) == ("scaled", 0.0, 0.0)
    assert found.repetition_s > 0 and found.row_s >= 0
    assert found.model_file > 8 * (5 * 5 + 5 * 5 + 5 + 3 * 5) and found.history_file.at(100) == 0
    assert look.image_bytes == 60


# -- counts ------------------------------------------------------------------------------------------


def test_flops_of_a_convolution_are_those_of_its_formula() -> None:
    layer = nn.Conv2d(3, 8, 5, padding=2, bias=False)
    assert count_forward(layer, (2, 3, 10, 12), CPU).flops == 2 * 2 * 10 * 12 * 8 * 3 * 25


def test_a_training_pass_of_linear_layers_counts_both_gradients_and_what_they_need() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    work, saved = count_pass(model, [((4, 3, 2, 2), torch.float32)], CPU, None)
    forward = 2 * 4 * (12 * 8 + 8 * 3)
    # Every layer's weights have a gradient; only the second one's inputs need one.
    assert work.flops == forward + forward + 2 * 4 * 8 * 3
    inputs, hidden, outputs = 4 * 4 * 12, 4 * 4 * 8, 4 * 4 * 3
    assert saved == inputs + hidden + outputs + 2 * inputs


def test_counting_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_pass(model, [((4, 1, 8, 8), torch.float32)], CPU, None)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_sam_step_counts_two_passes(tmp_path: Path) -> None:
    flops = {}
    for name in ("sgd", "sam"):
        spec = train_spec(trainer=Plugged(name="supervised", params={"optimiser": name, "precision": "fp32"}))
        flops[name] = measured(book_of(), spec, tmp_path).step.flops
    assert flops["sam"] == 2 * flops["sgd"]


def test_a_card_is_bound_by_products_by_traffic_or_by_launches() -> None:
    card = load_card("a100-40")
    assert card.seconds(Counts(312e12 * 0.35, 0, 1), "bf16") == pytest.approx(1)
    assert card.seconds(Counts(0, 1555e9 * 0.7, 1), "bf16") == pytest.approx(1)
    assert card.seconds(Counts(1, 1, 1e6), "bf16") == pytest.approx(8)
    assert load_card("v100").precision("auto") == "fp32" and card.precision("auto") == "bf16"


def test_an_unknown_card_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"--card: unknown card 'a100'.*a100-40"):
        load_card("a100")
    assert all(load_card(name).entry.memory > 0 for name in card_names())


# -- lengths -----------------------------------------------------------------------------------------

LENGTHS = [
    {"examples": 61, "batch": 16, "epochs": 3, "steps_as": None, "min_steps": 0},
    {"examples": 61, "batch": 16, "epochs": 3, "steps_as": 200, "min_steps": 0},
    {"examples": 5, "batch": 16, "epochs": 3, "steps_as": None, "min_steps": 40},
    {"examples": 33, "batch": 16, "epochs": 2, "steps_as": None, "min_steps": 0},
]


@pytest.mark.parametrize("case", LENGTHS)
@pytest.mark.parametrize("drop_last", [True, False])
def test_steps_and_rows_are_those_of_the_training_loop(
    case: dict[str, Any], drop_last: bool, tmp_path: Path
) -> None:
    sizes = {"epochs": case["epochs"], "steps_as": case["steps_as"], "min_steps": case["min_steps"]}
    task = make_task(tmp_path, rows=torch.arange(case["examples"]), batch_size=case["batch"], **sizes)
    steps = task.total_steps(drop_last)
    shown = sum(len(rows) for _, rows in Passes.of(task, drop_last).batches(0, steps))
    spec = train_spec(subset="selection/s-0", budget=case["examples"], batch_size=case["batch"], **sizes)
    chosen = SelectSpec(
        seeds=(0,), root_seed=0, data=DATA, method=Plugged(name="random"), variant="plain", budget=None,
        fraction=None, signals={},
    )  # fmt: skip
    length = book_of(**{"selection/s-0": chosen}).length(spec, drop_last)
    assert length.steps == steps
    whole_epochs = steps % Passes.of(task, drop_last).per_epoch == 0
    assert length.rows == pytest.approx(shown, abs=0 if whole_epochs else case["batch"])


def test_a_fold_leaves_out_its_part() -> None:
    assert book_of().examples(train_spec(fold=(0, 4), proxy=0)) == (EXAMPLES - EXAMPLES // 4, 1)


def test_the_plans_estimate_counts_least_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of digits, 144 examples take 3 steps of 64 an epoch: at least 60 steps are 20 passes instead of 10."""
    monkeypatch.chdir(tmp_path)
    plan = load_plan({"scale": "demo", "suites": ["coresets"]}, check_sources=False)
    spec = next(
        node.spec for node in plan.graph.nodes.values()
        if isinstance(node.spec, TrainSpec) and node.spec.fraction == 0.1
    )  # fmt: skip
    long, short = (_seconds(plan, spec, least) for least in (60, 0))
    assert long / short == pytest.approx(60 * 64 / (10 * 143.7), rel=1e-3)


def _seconds(plan: Plan, spec: TrainSpec, min_steps: int) -> float:
    """Return the estimate of one subset's training, where the full data's took 1000 s."""
    data, full = plan.graph.nodes[spec.data], spec.model_copy(update={"subset": None, "fraction": 1.0})
    graph = Graph()
    graph.nodes[spec.data] = data
    done, todo = graph.add("s", full.model_copy(update={"min_steps": 0})), "train/todo"
    least = spec.model_copy(update={"min_steps": min_steps})
    graph.nodes[todo] = Node(least, least.json_text(), "todo", ())
    graph.users |= {spec.data: {"s"}, todo: {"s"}}
    small = replace(plan, graph=graph)
    folder = small.places[done]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "provenance.json").write_text(json.dumps({"wall_s": 1000.0, "bytes_written": 1}))
    seconds = {row.stage: row.seconds_to_do for row in estimate_stages(small)}["train"]
    assert seconds is not None
    return seconds


# -- fits --------------------------------------------------------------------------------------------


def test_a_fit_is_exact_where_it_was_measured_and_follows_the_power_beyond() -> None:
    squares = Fit(tuple((n, 3.0 + (n - 10) ** 2) for n in (10, 110, 210)))
    assert [squares.at(n) for n in (10, 110, 210)] == [3, 10003, 40003]
    assert squares.at(1010) == pytest.approx(3 + 1000**2)
    assert Fit(((10, 1.0), (20, 2.0))).at(100) == pytest.approx(10)
    assert Fit(((10, 1.0), (20, 5.0), (40, 4.0))).at(70) == pytest.approx(7)
    assert replace(squares, steepest=1.0).at(1010) == pytest.approx(3 + 200**2 * 5)
    assert Fit(((10, 3.0), (20, 2.0))).at(1000) == 2, "what falls is noise, and no time is below zero"


def test_trainings_that_cost_the_same_are_one_case() -> None:
    book = book_of()
    plain = {"crop": 1, "precision": "fp32"}

    def key(epochs: int = 3, **own: Any) -> str:
        trainer = Plugged(name="supervised", params=plain | own)
        return book.train_key(train_spec(trainer=trainer, epochs=epochs))

    assert key() == key(lr=0.5) == key(schedule="step", milestones=[0.1]) == key(epochs=9)
    others = [key(), key(optimiser="sam"), key(mixup=0.2), key(record=True), key(epochs=9, record=True)]
    assert len(set(others)) == len(others)


def test_activations_grow_up_to_a_batch_and_what_is_kept_beyond() -> None:
    seen = Fit(((4, 1.004e9), (16, 1.016e9), (64, 1.064e9)))
    assert memory_in_batches(seen, 512, 0.0) == pytest.approx(1.512e9)
    assert memory_in_batches(seen, 50_000, 0.0) == pytest.approx(1.512e9)
    assert memory_in_batches(seen, 50_000, 1e4) == pytest.approx(1.512e9 + (50_000 - 512) * 1e4)
    longer = Fit((*seen.points, (256, 1.256e9), (1024, 1.5632e9)))  # 1e5 bytes are kept of an image
    assert memory_in_batches(longer, 50_000, 0.0) == pytest.approx(1.512e9 + (50_000 - 512) * 1e5, rel=1e-3)
    once = Fit(((4, 1e9),))
    assert memory_in_batches(once, 1004, 1e4) == pytest.approx(1e9 + 1e7)


def test_noise_of_small_runs_is_not_multiplied_beyond_a_batch() -> None:
    seen = Fit(((4, 0.993e9), (16, 0.994e9), (64, 1.026e9)))  # exponents of its last points say 9 GB at 5,000
    assert memory_in_batches(seen, 5000, 1e4) < 1.5e9


def test_noise_of_small_probes_is_not_multiplied_by_the_size_of_a_dataset() -> None:
    seen = Fit(((64, 0.9e9), (256, 0.901e9), (1024, 0.93e9)))  # exponents of its last points say 450 GB
    once = Fit(((64, 0.0),))
    probe = StageMeasure(0.0, 0.0, 0.0, once, seen, once, 0.0, splits=("test", "train"))
    sizes, features = {"train": 100_000, "test": 10_000}, 100_000 * 512 * 4
    found = encoding_memory(probe, sizes, 512, 64 * 64 * 3)
    assert 0.9e9 + 2 * features + 110_000 * 64 * 64 * 3 < found < 8e9
    blind = replace(probe, memory=Fit(((64, 0.9e9),)), splits=("test",))
    assert encoding_memory(blind, sizes, 512, 100) == pytest.approx(0.9e9 + 10_000 * 100)


def test_what_takes_too_long_to_grow_takes_time_by_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = {"wall_s": 2.0, "cpu_s": 2.0}
    monkeypatch.setattr(stages, "run", lambda *_: Ran(tmp_path, {"0": cost, "1": cost}, 5.0, 0.0))
    grown = stages._grow(tmp_path, lambda *_: prepare_spec(), lambda _: None, "cpu", 1.0, least=4, most=4000)
    assert [n for n, _ in grown.memory] == [4]
    assert stages._summary(grown).seconds.at(4000) == pytest.approx(2000)
    grown = stages._grow(tmp_path, lambda *_: prepare_spec(), lambda _: None, "cpu", 1.0, least=4, most=4)
    assert stages._summary(grown).seconds.at(4000) == 2.0, "nothing grows: all was seen"


def test_what_is_paid_once_is_not_paid_by_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two models take a second to build, which is all that the first sizes take."""

    def ran(_: Path, spec: PrepareSpec, *__: object) -> Ran:
        seconds = 1.0 + 0.001 * spec.entry["splits"]["train"]
        return Ran(tmp_path, {seed: {"wall_s": seconds, "cpu_s": seconds} for seed in "01"}, seconds, 0.0)

    monkeypatch.setattr(stages, "run", ran)
    grown = stages._grow(
        tmp_path, lambda n, _: prepare_spec(n), lambda _: None, "cpu", 1.5, least=4, most=6000
    )
    assert [n for n, _ in grown.seconds] == [4, 16]
    assert stages._summary(grown).seconds.at(6000) == pytest.approx(7.0)


def test_what_grows_fast_stops_before_it_takes_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first sizes of a cubic cost, the next one is 64 times as much and not four times."""

    def ran(_: Path, spec: PrepareSpec, *__: object) -> Ran:
        seconds = 1e-3 * (spec.entry["splits"]["train"] / 64) ** 3
        return Ran(tmp_path, {seed: {"wall_s": seconds, "cpu_s": seconds} for seed in "01"}, seconds, 0.0)

    monkeypatch.setattr(stages, "run", ran)
    grown = stages._grow(
        tmp_path, lambda n, _: prepare_spec(n), lambda _: None, "cpu", 2.0, least=64, most=50000
    )
    assert [n for n, _ in grown.seconds] == [64, 256]


def test_a_share_between_two_that_were_rehearsed_lies_between_them() -> None:
    def spec(fraction: float) -> SelectSpec:
        method = Plugged(name="random", params={"quotas": "none"})
        return SelectSpec(
            seeds=(0,), root_seed=0, data=DATA, method=method, variant="plain", budget=1, fraction=fraction,
            signals={},
        )  # fmt: skip

    book, chosen = book_of(), spec(0.3)
    assert book.stage_measure(chosen) is None
    for fraction, seconds in ((0.1, 2.0), (0.5, 6.0)):
        fit = Fit(((EXAMPLES, seconds),))
        book.measures.stages[book.select_key(spec(fraction))] = StageMeasure(0, 0, 0, fit, fit, fit, 0)
    book.measures.fractions[book.family(chosen)] = (0.1, 0.5)
    found = book.stage_measure(chosen)
    assert found is not None and found.seconds.at(EXAMPLES) == pytest.approx(4)


# -- schedules ---------------------------------------------------------------------------------------


def task(seconds: float, *after: str, gpu: bool = True) -> Task:
    return Task(seconds, gpu, after)


DIAMOND = {
    "a": task(1), "b": task(5, "a"), "c": task(2, "a"), "d": task(3, "b", "c"), "e": task(4, gpu=False),
}  # fmt: skip


def test_one_gpu_takes_the_sum_and_many_the_longest_chain() -> None:
    assert makespan(DIAMOND, gpus=1, slots=8) == 1 + 5 + 2 + 3
    assert makespan(DIAMOND, gpus=8, slots=8) == 1 + 5 + 3
    assert makespan(DIAMOND, gpus=8, slots=1) == 15
    assert longest_path(DIAMOND) == ["a", "b", "d"]


def test_the_longest_remaining_chain_goes_first() -> None:
    tasks = {"short": task(1), "long": task(1), "after": task(10, "long")}
    assert makespan(tasks, gpus=1, slots=2) == 11 + 1


def test_any_schedule_lies_between_its_bounds() -> None:
    draw = random.Random(0)
    for _ in range(30):
        names = [str(number) for number in range(25)]
        tasks = {
            name: Task(draw.random(), draw.random() < 0.6, tuple(draw.sample(names[:i], min(i, 2))))
            for i, name in enumerate(names)
        }
        chain = sum(tasks[name].seconds for name in longest_path(tasks))
        work = sum(each.seconds for each in tasks.values() if each.gpu)
        for gpus in (1, 2, 3):
            found = makespan(tasks, gpus, slots=100)
            assert max(chain, work / gpus) - 1e-9 <= found <= chain + work / gpus + 1e-9
        assert makespan(tasks, 100, 100) == pytest.approx(chain)


def test_jobs_that_need_a_gpu_are_not_left_out_where_there_is_none() -> None:
    with pytest.raises(ValueError, match="GPU"):
        makespan({"a": task(1)}, gpus=0, slots=1)


# -- sums and limits ---------------------------------------------------------------------------------


def forecast(reference: str, hours: float = 1.0, **changes: Any) -> Forecast:
    fields = {"start_s": 0.0, "wall_s": 3600 * hours, "host": 1e9, "device": None, "files": 2e9}
    return Forecast(reference, reference.split("/")[0], how="measured", **(fields | changes))


def shared_graph() -> tuple[Graph, list[str]]:
    graph = Graph()
    both = graph.add("one", prepare_spec())
    graph.add("two", prepare_spec())
    references = [both]
    for suite, epochs in (("one", 1), ("two", 2), ("one", 3), ("two", 3)):
        references.append(graph.add(suite, train_spec(data=both, epochs=epochs)))
    graph.cells = {"one": [], "two": []}
    return graph, list(dict.fromkeys(references))


def test_what_suites_share_is_in_each_and_once_in_all() -> None:
    graph, references = shared_graph()
    jobs, on_gpu = [forecast(name) for name in references], {"prepare": False, "train": True}
    found = rows(jobs, graph, on_gpu)
    train = {row.suite: row for row in found if row.stage == "train"}
    assert [(row.jobs, row.shared) for row in train.values()] == [(2, 1), (2, 1), (3, 1)]
    assert [row.gpu_hours for row in train.values()] == [2, 2, 3]
    assert train[UNION].disk == 6 and train[UNION].cpu_hours == 0
    prepare = {row.suite: row for row in found if row.stage == "prepare"}
    assert [(row.jobs, row.shared, row.cpu_hours) for row in prepare.values()] == [(1, 1, 1)] * 3
    hours = {
        gpus: {span.suite: span.hours for span in spans(jobs, graph, on_gpu, gpus, 9)} for gpus in (1, 9)
    }
    assert hours == {1: {"one": 3, "two": 3, UNION: 4}, 9: {"one": 2, "two": 2, UNION: 2}}


def test_a_model_that_is_too_large_does_not_fit(tmp_path: Path) -> None:
    spec = train_spec()
    book = book_of(**{"train/t-0": spec})
    large = replace(measured(book, spec, tmp_path), weights=15e9, state=15e9)
    card, rules = load_card("a100-40"), {"train": Rule(8000, 60, True)}
    for measure, expected in ((measured(book, spec, tmp_path), []), (large, ["device memory"])):
        book.measures.train[book.train_key(spec)] = measure
        jobs = [Forecaster(book, card).one("train/t-0", spec)]
        found = misfits(jobs, rules, card.entry.memory * 1e9, disk_free=1e12)
        assert [misfit.what for misfit in found] == expected


def test_pairs_in_shards_need_memory_for_their_captions_and_no_disk_for_pixels() -> None:
    jobs = {}
    for name in ("cc3m", "cc12m"):
        entry = load_catalogue(ROOT / "datasets.yaml")[name].content()
        spec = prepare_spec().model_copy(update={"dataset": name, "entry": entry})
        jobs[name] = Forecaster(book_of(**{"prepare/pairs-0": spec}), None).one("prepare/pairs-0", spec)
        assert jobs[name].files < 1e-2 * sum(entry["splits"].values()) * 224 * 224 * 3
    rules = {"prepare": read_rule("prepare")}
    assert misfits([jobs["cc3m"]], rules, None, disk_free=1e12) == []
    found = misfits([jobs["cc12m"]], rules, None, disk_free=1e12)
    assert [misfit.what for misfit in found] == ["mem_mb"]


@pytest.mark.parametrize(("cut", "kept", "size"), [(12, None, 12), (None, 34, 34), (None, None, EXAMPLES)])
def test_a_ranked_selection_has_its_own_size_or_that_of_its_cut(
    cut: int | None, kept: int | None, size: int
) -> None:
    chosen = SelectSpec(
        seeds=(0,), root_seed=0, data=DATA, method=Plugged(name="random", params={"quotas": "none"}),
        variant="plain", budget=kept, fraction=0.1, signals={},
    )  # fmt: skip
    ranked = EvaluateSpec(
        seeds=(0,), root_seed=0, data=DATA, subject="selection/x", budget=cut,
        protocol=Plugged(name="dd_ranking"), version=1,
    )  # fmt: skip
    book = book_of(**{"selection/x": chosen})
    assert book.set_size(ranked) == size


def test_tensors_of_a_distillation_are_on_the_card_where_there_is_one() -> None:
    spec = DistillSpec(
        seeds=(0,), root_seed=0, data=DATA, start="selection/x", method=Plugged(name="dm"), variant="plain",
        model=Plugged(name="mlp", params={"depth": 1, "width": 16}), budget=10, fraction=0.1, uses={},
    )  # fmt: skip
    book = book_of()
    book.measures.distill[book.distill_key(spec)] = DistillMeasure(
        "counted", 0.0, 0.0, 0.0, 1, 0.0, Counts(), memory=1e9, device=50e9, files=0.0
    )
    images = 4.0 * book.pool(DATA) * book.look(DATA).image_bytes
    here, card = Forecaster(book).one("distill/x", spec), load_card("h100")
    there = Forecaster(book, card).one("distill/x", spec)
    assert here.host == pytest.approx(51e9 + images) and here.device is None
    assert there.host == pytest.approx(1e9 + images + card.assumed.host_gb * 1e9)
    assert there.device == pytest.approx(50e9 + images + card.assumed.context_gb * 1e9)


def test_memory_runtime_and_disk_are_held_against_their_limits() -> None:
    rules = {"selection": Rule(900, 59, False), "train": Rule(None, None, True)}
    jobs = [forecast("selection/a"), forecast("train/b")]
    found = {misfit.what: misfit for misfit in misfits(jobs, rules, None, disk_free=3e9)}
    assert set(found) == {"mem_mb", "runtime", "disk"}
    assert found["mem_mb"].worst == "selection/a" and found["runtime"].limit == 59
    assert found["disk"].needed == pytest.approx(4)
    rules["selection"] = Rule(1001, 61, False)
    assert misfits(jobs, rules, None, disk_free=5e9) == []


def test_the_rules_limits_are_read() -> None:
    for stage in STAGES:
        rule = read_rule(stage)
        assert rule.mem_mb is not None and rule.mem_mb > 500
        assert rule.runtime is not None and rule.runtime >= 30
        assert rule.gpu == (stage in ("train", "signals", "distill", "evaluate"))
    with pytest.raises(UserError, match=r"rules/nothing\.smk"):
        read_rule("nothing")


# -- against finished jobs ---------------------------------------------------------------------------


def test_files_of_a_finished_training_are_those_of_the_forecast(tmp_path: Path) -> None:
    make_data(tmp_path, LOOK, EXAMPLES)
    spec = train_spec(epochs=30, seeds=(0, 1, 2))
    done = run(tmp_path, spec, train_all, "cpu")
    book = book_of()
    measured(book, spec, tmp_path / "rehearsal")
    found = Forecaster(book).one(f"train/{spec.id()}", spec)
    assert found.files == pytest.approx(done.bytes_of("**/*"), rel=0.1)


def test_files_of_a_finished_selection_are_those_of_the_forecast(tmp_path: Path) -> None:
    n = 1000
    case = SelectCase(Plugged(name="random", params={"quotas": "labels"}), "stratified", LOOK, {}, n, 0.2)
    found = measure_selection(case, tmp_path / "rehearsal", "cpu", budget_s=60)
    assert found.share == pytest.approx(0.2) and found.rounds == 1
    spec = SelectSpec(
        seeds=(0, 1), root_seed=0, data=make_data(tmp_path, LOOK, n), method=case.method,
        variant="stratified", budget=200, fraction=0.2, signals={},
    )  # fmt: skip
    done = run(tmp_path, spec, filling(select_all), "cpu")
    assert found.fixed_files + 2 * found.files.at(n) == pytest.approx(done.bytes_of("**/*"), rel=0.1)


def test_further_data_are_counted_and_those_that_are_decoded() -> None:
    sets = {"a": prepare_spec(100), "b": prepare_spec(100)}
    published = sets["b"].entry | {"kind": "benchmark", "shape": None, "splits": {"test": 50}}
    sets["b"] = sets["b"].model_copy(update={"entry": published})
    spec = EvaluateSpec(
        seeds=(0,), root_seed=0, data=DATA, subject="train/x", budget=None, version=1,
        transfer={name: f"prepare/{name}" for name in sets}, protocol=Plugged(name="zero_shot"),
    )  # fmt: skip
    book = book_of(**{f"prepare/{name}": about for name, about in sets.items()})
    assert book.transferred(spec, ("test",)) == (TEST + 50, 50)
    assert book.transferred(spec, ("test", "train")) == (TEST + 100 + 50, 50), "a probe, on the first"
    found = Forecaster(book).one("prepare/b", sets["b"])
    assert found.files < 1e6 and found.wall_s > 1 and book.look("prepare/b").shape == ()


def test_images_in_shards_are_in_no_memory(tmp_path: Path) -> None:
    spec, n = train_spec(), 10_000_000
    book = book_of()
    measured(book, spec, tmp_path)
    entry = prepare_spec(n).entry
    found = {}
    for reader in ("bundled", "webdataset"):
        book.specs = {DATA: prepare_spec(n).model_copy(update={"entry": entry | {"reader": reader}})}
        found[reader] = Forecaster(book, load_card("a100-40")).one("train/a", spec)
    assert found["bundled"].device is not None and found["webdataset"].device is not None
    assert found["bundled"].device - found["webdataset"].device == pytest.approx(64 * n)
    assert found["bundled"].host - found["webdataset"].host == pytest.approx(2 * 64 * n)


def test_where_jobs_start_warm_libraries_are_not_paid_for(tmp_path: Path) -> None:
    spec, book = train_spec(), book_of()
    found = measured(book, spec, tmp_path)
    book.measures.train[book.train_key(spec)] = replace(found, first_s=5.0, imported_s=4.0, overhead_s=0.5)
    cold = Forecaster(book).one("train/a", spec)
    book.measures.starts = {**STARTS, "train": Start(1.0, 1e8, warm_s=0.25)}
    warm = Forecaster(book).one("train/a", spec)
    assert cold.wall_s - warm.wall_s == pytest.approx(4.0)
    assert (cold.start_s, warm.start_s) == (1.0, 0.25)


def test_imports_of_libraries_are_watched_once_and_ours_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_inner.py").write_text("import time; time.sleep(0.01); sum(range(2_000_000))")
    (tmp_path / "slow_outer.py").write_text("import slow_inner; sum(range(2_000_000))")
    monkeypatch.syspath_prepend(tmp_path)
    watch = Watch()
    with imports_watched() as imported:
        import slow_outer  # noqa: F401

        sum(range(2_000_000))
        import winnow.rehearse.clock
    assert 0 < imported.seconds < watch.seconds
    with imports_watched() as again:
        import winnow.rehearse.clock  # noqa: F401
    assert again.seconds == 0


def test_a_job_that_starts_warm_is_timed_through_the_server(tmp_path: Path) -> None:
    start = _start("winnow.store", tmp_path, warm_jobs=True)
    assert start.warm_s is not None and 0 < start.warm_s < 60 and start.memory > 1e6
    assert _start("winnow.store", tmp_path, warm_jobs=False).warm_s is None


def test_errors_are_relative_to_what_finished_jobs_recorded(tmp_path: Path) -> None:
    graph, references = shared_graph()
    for reference in references:
        folder = tmp_path / reference
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text(graph.nodes[reference].spec.json_text())
        (folder / "provenance.json").write_text(json.dumps({"wall_s": 3600.0, "peak_rss_gb": 1.0}))
    orphan = EvaluateSpec(
        seeds=(0,), root_seed=0, data=references[0], subject="train/gone-1", budget=None,
        protocol=Plugged(name="accuracy"), version=1,
    )  # fmt: skip
    lost = tmp_path / "evaluate" / "lost"
    lost.mkdir(parents=True)
    (lost / "spec.json").write_text(orphan.json_text())
    (lost / "provenance.json").write_text("{}")
    done = finished_jobs(tmp_path)
    assert set(done) == set(references)
    jobs = [forecast(name, hours=2.0 if name.startswith("train") else 1.0) for name in references]
    found = {(e.quantity, e.stage): e for e in errors(pairs(jobs, done, tmp_path / "benchmarks"))}
    assert found["time in the job", "train"].median == pytest.approx(1)
    assert found["time in the job", "prepare"].median == 0
    assert found["time in the job", "all"].ratio == pytest.approx(7 / 4)
    with pytest.raises(UserError, match="no results to check"):
        finished_jobs(tmp_path / "nowhere")


@pytest.mark.parametrize(("trainer", "timed"), [("clip", True), ("clip", False), ("simclr", True)])
def test_few_texts_are_encoded_and_the_others_are_owed(tmp_path: Path, trainer: str, timed: bool) -> None:
    (tmp_path / "train" / "x").mkdir(parents=True)
    (tmp_path / "train" / "x" / "spec.json").write_text(json.dumps({"trainer": {"name": trainer}}))
    asked = []

    class Towers:
        logit_scale = torch.zeros(1)

        def tokens(self, captions: Sequence[str]) -> torch.Tensor:
            return torch.zeros(len(captions), 1)

        def encode_texts(self, tokens: torch.Tensor) -> torch.Tensor:
            asked.append(len(tokens))
            end = time.process_time() + 0.2
            while time.process_time() < end:
                pass
            return torch.eye(4)[torch.zeros(len(tokens), dtype=torch.long)]

    own = image_text.text_features
    with stages._few_texts_encoded(tmp_path, ["train/x"], timed) as texts:
        found = image_text.class_features(
            cast(Any, Towers()), [str(i) for i in range(80)], ["a {}", "the {}"]
        )
    assert image_text.text_features is own
    assert found.shape == (80, 4)
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    assert sum(asked) == (16 if trainer == "clip" else 160)
    if trainer == "clip" and timed:
        assert texts.owed == pytest.approx(0.2 * 9, rel=0.3)
    else:
        assert texts.owed == 0


def test_noise_between_two_sizes_does_not_become_a_power() -> None:
    """Linear time, the last size disturbed by half: a thousand times larger it is wrong by 5, not by 11."""
    points = ((64, 0.1), (256, 0.4), (1024, 1.6), (4096, 6.4), (16384, 25.6 * 1.5))
    fit = Fit(points)
    assert 1 <= fit.exponent < 1.16
    assert fit.at(16_384_000) / 25_600 < 5


def test_a_stand_in_of_pairs_without_classes_can_be_evaluated(tmp_path: Path) -> None:
    from winnow.data.dataset import Dataset

    data = Dataset.open(tmp_path / make_data(tmp_path, Look((8, 8, 3), 1), 64))
    assert max(data.labels("test")) < len(data.classes)


def test_stand_in_groups_are_as_many_as_real_ones(tmp_path: Path) -> None:
    """Methods that work group by group take the square of a group's size: a few would look like hours."""
    plugin = registry.load("signals", "latent_classes", "here")
    params = plugin.params(source="labels")
    case = SignalCase(Plugged(name="latent_classes", params=params.model_dump()), LOOK, (), False, {}, 64)
    assert measure_signal(case, tmp_path, "cpu", 1.0, True).range == (0, 9), "of which 64 examples have 2"
    assert plugin.groups is not None
    assert plugin.groups(plugin.params(k=7), 10) == 7
    assert plugin.groups(plugin.params(source="zero_shot", names="imagenet"), 10) == 1000


def test_a_probe_of_millions_of_wide_rows_stays_within_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def look(params: object, view: EvaluationView) -> dict[str, tuple[float, int]]:
        sizes.append(len(view.encode("train")))
        return {}

    plugin = replace(registry.load("evaluate", "linear_probe", "here"), function=look)
    case = EvaluateCase(Plugged(name="linear_probe", params={}), 1, Look((8, 8, 3), 2), None, 1024, 10**9)
    monkeypatch.setattr(stages, "MOST_BYTES", 4 * 1024 * 1000)
    assert stages._grow_probe(stages._Grown(), case, tmp_path, plugin, plugin.params(), 60) == ["train"]
    assert sizes == [64, 256, 1000]


def test_a_protocol_that_sees_no_training_images_is_not_charged_for_them(tmp_path: Path) -> None:
    plugin = registry.load("evaluate", "zero_shot", "here")
    case = EvaluateCase(Plugged(name="zero_shot", params={}), 1, Look((8, 8, 3), 2), None, 16, 10**9)
    grown = stages._Grown()
    assert stages._grow_probe(grown, case, tmp_path, plugin, plugin.params(), 60) == ["test"]
    assert len(grown.seconds) == 1, "more of them would cost the same"


def test_changed_images_are_counted_as_often_as_they_are_encoded(tmp_path: Path) -> None:
    plugin = registry.load("evaluate", "zero_shot", "here")
    params = plugin.params(corruptions=["greyscale", "blur"])
    case = EvaluateCase(Plugged(name="zero_shot", params={}), 1, Look((8, 8, 3), 2), None, 16, 10**9)
    asked = stages._grow_probe(stages._Grown(), case, tmp_path, plugin, params, 60)
    assert asked == ["test"] + 10 * [stages.CHANGED], "two kinds at five strengths"
