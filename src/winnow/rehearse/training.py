"""Rehearsing a trainer: its own steps, with its own model and optimiser, on stand-in images.

The trainer itself is called; only the loop that it ends in is stopped, timed or skipped here.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from winnow import registry
from winnow.models.engine.blocks import feature_width
from winnow.rehearse.cases import EXAMPLES, TrainCase
from winnow.rehearse.clock import Watch, imports_watched, peak_memory
from winnow.rehearse.counting import Shapes, Tally, bytes_of, count_forward, count_pass
from winnow.rehearse.measures import Counts, Fit, How, TrainMeasure
from winnow.rehearse.standin import TEST, Ran, make_data, run
from winnow.store import Cost
from winnow.train.engine.device import pick_device
from winnow.train.engine.loop import Loop
from winnow.train.engine.run import train_all
from winnow.train.engine.task import Task

FEW, MANY = 4, 4096
STEPS, LONG_ENOUGH_S = 8, 0.3
"""Steps to take, and more of them where they are short."""

HISTORIES = (20, 3000)
"""Steps that the two repetitions of a stand-in job pretend to have taken, to see what a history weighs."""

REACHED = 0.4
"""The share of a matrix product's speed that a network's step is taken to reach before it is measured."""


class _Stopped(Exception):
    """Leaves a trainer, or a model's forward pass, where the rehearsal has seen enough."""


@contextlib.contextmanager
def _loops_run(function: Callable[[Loop], Tensor]) -> Iterator[None]:
    """Let `function` stand for the training loop's run."""
    own = Loop.run
    Loop.run = function  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        Loop.run = own  # type: ignore[method-assign]


def measure_training(
    case: TrainCase, store: Path, device_name: str, budget_s: float, is_first: bool, timed: bool = True
) -> TrainMeasure:
    """Rehearse one case; spends about `budget_s` seconds on steps.

    is_first: whether this process has trained nothing yet, so that what happens at first use is seen. timed:
    whether steps are taken, or counted only.
    """
    device = pick_device(device_name)
    ran = _pretend(case, store, device_name)
    resident = peak_memory()
    loop = _loop(case, FEW, device)
    if loop is None:
        return _closed_form(case, store, device_name, ran, is_first)
    inputs, preparation = _model_inputs(loop)
    shape = inputs[0][0]
    views = shape[0] / FEW
    full = [((round(views * case.batch_size), *each[1:]), dtype) for each, dtype in inputs]
    optimising, passes = _optimiser_step(loop)
    bare = getattr(loop.model, "encoder", loop.model)
    forward = count_forward(bare, (1, *shape[1:]), device)
    wanted = str(case.trainer.params.get("precision", "auto"))
    types = {"fp32": None} if wanted == "fp32" else {"fp32": None, "bf16": torch.bfloat16}
    counted = {name: count_pass(loop.model, full, device, dtype) for name, dtype in types.items()}
    here = "fp32" if loop.dtype is None else "bf16"
    work = counted[here][0]
    step = _repeated(work, passes) + _repeated(preparation.times(case.batch_size / FEW), passes) + optimising
    with imports_watched() as imported:
        how, step_s, row_s, first_step_s = _time(case, step, device, budget_s if timed else 0.0)
    forward_s = _time_forward(bare, shape[1:], forward, device, budget_s)
    return TrainMeasure(
        how=how,
        batch=case.batch_size,
        first_s=max(0.0, ran.cost("0") - ran.cost("1")) + first_step_s if is_first else 0.0,
        imported_s=ran.imported_s + imported.seconds if is_first else 0.0,
        repetition_s=ran.cost("1"),
        overhead_s=ran.overhead_s,
        step_s=step_s,
        row_s=row_s,
        forward_s=forward_s,
        drop_last=loop.passes.drop_last,
        precision=wanted,
        precision_here=here,
        width=feature_width(bare, shape[1], shape[2]),
        step=step,
        forward=forward,
        weights=bytes_of(list(loop.model.parameters())),
        state=bytes_of(loop.optimiser.state_dict()["state"]),
        activations={name: saved for name, (_, saved) in counted.items()},
        device=_peak(device),
        memory=resident,
        model_file=float(ran.bytes_of("s0/model.safetensors")),
        history_file=_history_file(ran),
        logits_row=ran.bytes_of("s0/test_logits.npy") / TEST,
        recorded_cell=ran.bytes_of("s0/dynamics/*.npy") / (EXAMPLES * case.epochs),
        fixed_files=float(ran.bytes_of("*.json")),
    )


def _closed_form(case: TrainCase, store: Path, device_name: str, ran: Ran, is_first: bool) -> TrainMeasure:
    """Return the costs of a trainer that takes no steps, by two runs of different size.

    Its time is taken to grow with the rows, and to be on a card what it is on a processor.
    """
    spec = case.spec().model_copy(update={"data": make_data(store, case.look, MANY)})
    more = run(store, spec, train_all, device_name)
    row_s = max(0.0, more.cost("1") - ran.cost("1")) / (MANY - EXAMPLES)
    pixels = 8.0 * MANY * case.look.image_bytes / case.look.pixel_bytes
    return TrainMeasure(
        how="scaled",
        batch=case.batch_size,
        first_s=max(0.0, ran.cost("0") - ran.cost("1")) if is_first else 0.0,
        imported_s=ran.imported_s if is_first else 0.0,
        repetition_s=ran.cost("1"),
        overhead_s=ran.overhead_s,
        step_s=0.0,
        row_s=row_s,
        forward_s=0.0,
        drop_last=False,
        precision="fp32",
        precision_here="fp32",
        width=case.look.shape[1],
        step=Counts(flops=row_s * case.batch_size * product_speed(torch.device("cpu"))),
        forward=Counts(),
        weights=float(ran.bytes_of("s0/model.safetensors")),
        state=0.0,
        activations={"fp32": pixels},
        device=None,
        memory=peak_memory(),
        model_file=float(ran.bytes_of("s0/model.safetensors")),
        history_file=Fit(tuple((steps, 0.0) for steps in HISTORIES)),
        logits_row=ran.bytes_of("s0/test_logits.npy") / TEST,
        recorded_cell=0.0,
        fixed_files=float(ran.bytes_of("*.json")),
    )


def _pretend(case: TrainCase, store: Path, device_name: str) -> Ran:
    """Run the stage on stand-in data; no step is taken, but all is built, saved and scored."""
    make_data(store, case.look, EXAMPLES)
    lengths = iter(HISTORIES)

    def skipped(loop: Loop) -> Tensor:
        loop.carried = {"wall_s": 0.0, "cpu_s": 0.0}
        for values in loop.extras.values():
            if values.is_floating_point():
                values.nan_to_num_()
        return torch.rand(next(lengths, HISTORIES[-1]), 2)

    with _loops_run(skipped):
        return run(store, case.spec(), train_all, device_name)


def _loop(case: TrainCase, batch: int, device: torch.device) -> Loop | None:
    """Return the loop that the trainer builds for one epoch of a single batch; None if it takes no steps."""
    trainer = registry.load("train", case.trainer.name, "rehearsal")
    model = registry.load("models", case.model.name, "rehearsal")
    height, width, channels = case.look.shape
    images = torch.randint(256, (batch, height, width, channels), dtype=torch.uint8)
    found: list[Loop] = []

    def stopped(loop: Loop) -> Tensor:
        found.append(loop)
        raise _Stopped

    with tempfile.TemporaryDirectory() as folder, _loops_run(stopped), contextlib.suppress(_Stopped):
        task = Task(
            images=images.to(device).permute(0, 3, 1, 2),
            labels=torch.randint(case.look.classes, (batch,)).to(device),
            rows=torch.arange(batch).to(device),
            weights=None,
            captions=lambda: [["a photo of a stand-in"]] * batch,
            rounds=1,
            mean=torch.full((channels,), 0.5, device=device),
            std=torch.full((channels,), 0.25, device=device),
            classes=case.look.classes,
            class_names=tuple(map(str, range(case.look.classes))),
            model=model,
            model_params=model.params(**case.model.params),
            epochs=1,
            steps_as=None,
            min_steps=0,
            batch_size=batch,
            root_seed=0,
            seed=0,
            context=(),
            device=device,
            checkpoint=Path(folder) / "checkpoint",
            out=Path(folder),
            label="rehearsal",
            cost=Cost(),
            heldout=dict,
            scoring=Cost(),
        )
        trainer.function(trainer.params(**case.trainer.params), task)
    return found[0] if found else None


def _rows(loop: Loop) -> Tensor:
    return torch.arange(loop.passes.n, device=loop.device)


def _model_inputs(loop: Loop) -> tuple[Shapes, Counts]:
    """Return the shapes and types of what the model is given in a step, and the work of preparing it."""
    seen: list[Shapes] = []

    def stop(_: object, inputs: tuple[Tensor, ...]) -> None:
        seen.append([(tuple(value.shape), value.dtype) for value in inputs])
        raise _Stopped

    hook = loop.model.register_forward_pre_hook(stop)
    with Tally() as tally, contextlib.suppress(_Stopped), loop._autocast():
        loop.step_loss(_rows(loop), 0)
    hook.remove()
    return seen[0], Counts(0, tally.traffic, tally.operations)


def _optimiser_step(loop: Loop) -> tuple[Counts, int]:
    """Return the work of an update without the model's passes, and how many passes it asks for."""
    calls, own = 0, loop.step_loss

    def trivial(rows: Tensor, step: int) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.stack([parameter.sum() for parameter in loop.model.parameters()]).sum() * 0

    loop.step_loss = trivial
    with Tally() as tally:
        loop._step(0, _rows(loop))
    loop.step_loss = own
    return Counts(0, tally.traffic, tally.operations), calls


def _repeated(work: Counts, times: int) -> Counts:
    return Counts(work.flops * times, work.traffic * times, work.operations * times)


def _time(
    case: TrainCase, step: Counts, device: torch.device, budget_s: float
) -> tuple[How, float, float, float]:
    """Return how it was found, seconds per step and per row of a batch, and the first step's extra."""
    speed = product_speed(device)
    affordable = budget_s * speed * REACHED / max(step.flops, 1.0) / 3
    batch = min(case.batch_size, int(affordable * case.batch_size))
    if batch < 2:
        return "counted", 0.0, step.flops / (speed * REACHED) / case.batch_size, 0.0
    full, first = _time_steps(case, batch, device, budget_s)
    if batch < case.batch_size:
        return "scaled", 0.0, full / batch, max(0.0, first - full)
    small = max(2, batch // 8)
    part, _ = _time_steps(case, small, device, budget_s / 4) if small < batch else (full, 0.0)
    row_s = min(max(0.0, (full - part) / max(1, batch - small)), full / batch)
    return "measured", full - row_s * batch, row_s, max(0.0, first - full)


def _time_steps(case: TrainCase, batch: int, device: torch.device, budget_s: float) -> tuple[float, float]:
    """Return the median seconds of a step of a batch, and of the first one."""
    loop = _loop(case, batch, device)
    assert loop is not None
    rows, times = _rows(loop), list[float]()
    while len(times) < 2 or (sum(times) < budget_s and (len(times) < STEPS or sum(times) < LONG_ENOUGH_S)):
        times.append(seconds_of(lambda: loop._step(0, rows), device))
    later = sorted(times[1:])
    return later[len(later) // 2], times[0]


def seconds_of(action: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that an action takes, with all that it leaves to a GPU."""
    watch = Watch()
    action()
    if device.type != "cuda":
        return watch.seconds
    torch.cuda.synchronize(device)
    return watch.wall


def _time_forward(
    model: torch.nn.Module, shape: tuple[int, ...], work: Counts, device: torch.device, budget_s: float
) -> float:
    """Return the seconds of one image's forward pass in evaluation mode, as part of a large batch."""
    speed = product_speed(device)
    count = min(512, int(budget_s / 4 * speed * REACHED / max(work.flops, 1.0)))
    if count < 1:
        return work.flops / (speed * REACHED)
    model = model.eval().to(memory_format=torch.channels_last)
    images = torch.rand(count, *shape, device=device).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        return min(seconds_of(lambda: model(images), device) for _ in range(2)) / count


_SPEED: dict[torch.device, float] = {}


def product_speed(device: torch.device) -> float:
    """Return the operations per second of a float32 matrix product on this device."""
    if device not in _SPEED:
        a, b = torch.rand(512, 1024, device=device), torch.rand(1024, 1024, device=device)
        times = [seconds_of(lambda: a @ b, device) for _ in range(5)]
        _SPEED[device] = 2 * 512 * 1024 * 1024 / min(times)
    return _SPEED[device]


def _peak(device: torch.device) -> float | None:
    return float(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None


def _history_file(ran: Ran) -> Fit:
    """Return the bytes of a history by its number of steps."""
    sizes = [ran.bytes_of(f"s{seed}/history.parquet") for seed in (0, 1)]
    return Fit(tuple((steps, float(size)) for steps, size in zip(HISTORIES, sizes, strict=True)))
