"""Rehearsing a distillation: a few of its own iterations on stand-ins, at two small sizes each way.

An iteration's cost grows with the steps of its students (or their epochs), with the synthetic examples, as a
product, and with the real ones beside. It is taken at the corners of a small box, and followed from there.
"""

from __future__ import annotations

import contextlib
import gc
import math
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from winnow import registry
from winnow.distill.engine import convnet_student, kernel, trajectories
from winnow.distill.engine.distributions import WITH_GRAPH
from winnow.distill.engine.params import DistributionParams, TrajectoryParams
from winnow.distill.engine.students import flat
from winnow.distill.engine.view import DistillView
from winnow.models.engine import planes
from winnow.plan.specs import Plugged
from winnow.registry import Params
from winnow.rehearse.cases import DistillCase
from winnow.rehearse.clock import Imported, Watch, forget_peak, imports_watched, peak_memory
from winnow.rehearse.counting import Tally
from winnow.rehearse.measures import Counts, DistillMeasure
from winnow.rehearse.training import seconds_of
from winnow.train.engine.classifier import assemble
from winnow.train.engine.device import pick_device
from winnow.train.engine.loop import Loop
from winnow.train.engine.recipe import Examples

POOL, REAL = 5_000, 16
"""Most real images of a stand-in, and those that an iteration is shown of each class."""

FEW = 10
"""Where operations are counted, which takes whole graphs: most classes of a method that compares synthetic
and real images class by class; most synthetic examples, at first, of one whose students see no others.
"""

LENGTHS = ("student_steps", "epochs")
"""Parameters that an iteration's cost is proportional to, beside its synthetic examples."""

SMALL = {"batch_size": None, "min_start": 0, "first_max_start": None, "max_start": 1, "expert_epochs": 1}
COSTLESS = re.compile(
    "iterations|lr_.*|momentum.*|step_size|skip_above|weight_decay|average|shift|statistics"
)
"""Parameters that small runs have values of their own for, and those that change no iteration's work."""


class _Stopped(Exception):
    """Leaves a method where the rehearsal has seen enough."""


@dataclass(frozen=True)
class _Seen:
    """What one small run showed: seconds before the loop, per iteration, of the first one and of imports; its
    counts; the iterations of a whole run for each that its parameter names; bytes that it held at once.
    """

    before_s: float
    step_s: float
    first_s: float
    imported_s: float
    counts: Counts
    rounds: float
    held: float = 0.0


_SEEN: dict[tuple[str, int, int, int], _Seen | None] = {}
"""Small runs by their key and size: many cases differ in their real sizes alone."""


def measure_distillation(case: DistillCase, device_name: str, budget_s: float, timed: bool) -> DistillMeasure:
    """Rehearse one case; `timed` False counts operations for another card instead."""
    device = pick_device(device_name)
    method = registry.load("distill", case.method.name, "rehearsal")
    params = method.params(**case.method.params)
    whole, by_class = case.look.classes, case.width is None and "batch_real" in type(params).model_fields
    classes = min(FEW, whole) if by_class and not timed else whole
    part = _of_classes(case, classes)
    with tempfile.TemporaryDirectory() as folder, _quick_beginnings(), _countable(timed):
        box = _Box(part, params, _view(part, device, Path(folder)), timed, budget_s, whole / classes)
        return box.measure(method.function)


def _of_classes(case: DistillCase, classes: int) -> DistillCase:
    """Return the case with as many examples of each of fewer classes."""
    share = classes / case.look.classes
    return replace(
        case,
        look=replace(case.look, classes=classes),
        n=round(share * case.n),
        budget=round(share * case.budget),
    )


@dataclass
class _Box:
    """A method at small sizes: `length` of its students 1 and 2, `classes` and twice as many examples.

    times: as many parts of the classes as this one are taken one after the other.
    """

    case: DistillCase
    params: Params
    view: DistillView
    timed: bool
    budget_s: float
    times: float

    def measure(self, function: Callable[..., Any]) -> DistillMeasure:
        least = self._least
        length = next((name for name in LENGTHS if name in self._fields), None)
        held = _peak_anew()
        learns = "iterations" in self._fields
        corner = self._run(function, least, length, 1, REAL) if learns else None
        if corner is None:
            return self._without_loop(function)
        more = self._run(function, 2 * least, length, 1, REAL) or corner
        longer = self._run(function, least, length, 2, REAL) if length else corner
        both = self._run(function, 2 * least, length, 2, REAL) if length else more
        wider = self._run(function, least, length, 1, 2 * REAL) if "batch_real" in self._fields else corner
        assert longer is not None and both is not None and wider is not None
        shown = min(self.case.budget, getattr(self.params, "batch_size", None) or self.case.budget)
        across, along = shown / least - 1, (getattr(self.params, length) if length else 1) - 1
        beside = getattr(self.params, "batch_real", REAL) / REAL - 1

        def followed(of: Callable[[_Seen], float]) -> float:
            a, b, c, d, e = (of(seen) for seen in (corner, more, longer, both, wider))
            found = a + across * (b - a) + along * (c - a) + across * along * (d - c - b + a)
            return max(a, found + beside * (e - a))

        counts = Counts(
            followed(lambda seen: seen.counts.flops),
            followed(lambda seen: seen.counts.traffic),
            followed(lambda seen: seen.counts.operations),
        )
        return DistillMeasure(
            how="scaled" if self.timed else "counted",
            first_s=max(0.0, corner.first_s - corner.step_s) + corner.imported_s,
            imported_s=corner.imported_s,
            repetition_s=self.times * corner.before_s * self.case.budget / least,
            steps=round(corner.rounds * self.params.iterations),  # type: ignore[attr-defined]
            step_s=followed(lambda seen: seen.step_s),
            step=Counts().plus(counts, self.times),
            memory=held,
            device=_held(corner, more, least, self._at_once(shown))
            + beside * max(0.0, wider.held - corner.held)
            + 4.0 * self._weights * (along + 2),
            files=self.times * 4.0 * self.case.budget * (self.case.look.image_bytes + (self.case.width or 1)),
        )

    def _at_once(self, shown: int) -> float:
        """Return the synthetic examples whose activations are held at once."""
        most = WITH_GRAPH if isinstance(self.params, DistributionParams) else math.inf
        return min(most, self.times * shown)

    @property
    def _least(self) -> int:
        """Return one example of each class, or a few where work grows with examples and is counted: that
        takes whole graphs, which for hundreds of large images are tens of gigabytes.
        """
        least = min(self.case.budget, self.case.look.classes)
        alone = not self.timed and isinstance(self.params, TrajectoryParams)
        return min(least, FEW) if alone else least

    @property
    def _fields(self) -> set[str]:
        return set(type(self.params).model_fields)

    @property
    def _weights(self) -> int:
        return self.view.parameters

    def _without_loop(self, function: Callable[..., Any]) -> DistillMeasure:
        """Return the costs of a method that learns nothing, run as it is for a tenth of the classes."""
        begun = torch.arange(self.case.budget)
        shown = begun[begun % self.view.classes < max(1, self.view.classes // 10)]
        times, watch = self.case.budget / len(shown), Watch()
        with imports_watched() as imported, contextlib.nullcontext() if self.timed else Tally() as tally:
            function(self.params, replace(self.view, start=shown))
        seconds = max(0.0, watch.seconds - imported.seconds) if self.timed else 0.0
        counts = Counts(tally.flops, tally.traffic, tally.operations) if tally else Counts()
        return DistillMeasure(
            how="scaled" if self.timed else "counted",
            first_s=imported.seconds,
            imported_s=imported.seconds,
            repetition_s=seconds * times,
            steps=0 if self.timed else 1,
            step_s=0.0,
            step=Counts().plus(counts, times),
            memory=peak_memory(),
            device=0.0,
            files=4.0 * self.case.budget * self.case.look.image_bytes,
        )

    def _starting(self, budget: int) -> DistillView:
        return replace(self.view, start=torch.arange(budget))

    def _run(
        self, function: Callable[..., Any], budget: int, length: str | None, times: int, real: int
    ) -> _Seen | None:
        """Take a few iterations; None where the method has no loop."""
        place = (self._key(length), budget, times, real)
        if place not in _SEEN:
            small: dict[str, Any] = {**SMALL, "batch_real": real} | ({length: times} if length else {})
            _SEEN[place] = self._iterate(function, budget, small)
        return _SEEN[place]

    def _key(self, length: str | None) -> str:
        """Return what small runs of the same work have in common."""
        given = {*SMALL, "batch_real", length}
        kept = {
            name: value
            for name, value in self.case.method.params.items()
            if name not in given and not COSTLESS.fullmatch(name)
        }
        own = replace(self.case, method=Plugged(name=self.case.method.name, params=kept), budget=0, epochs=0)
        return f"{replace(own, n=min(own.n, POOL))} {self.timed}"

    def _iterate(self, function: Callable[..., Any], budget: int, small: dict[str, Any]) -> _Seen | None:
        params = self.params.model_copy(update={k: v for k, v in small.items() if k in self._fields})
        found: list[_Seen] = []
        held = _peak_anew()
        with contextlib.ExitStack() as stack:
            imported, begun = stack.enter_context(imports_watched()), Watch()

            def few(loop: Loop) -> Tensor:
                before = max(0.0, begun.seconds - imported.seconds)
                loop.carried = {"wall_s": 0.0, "cpu_s": 0.0}
                found.append(self._steps(loop, before, imported))
                raise _Stopped

            stack.enter_context(contextlib.suppress(_Stopped))
            stack.enter_context(mock.patch.object(Loop, "run", few))
            function(params, self._starting(budget))
        return replace(found[0], held=max(0.0, peak_memory() - held)) if found else None

    def _steps(self, loop: Loop, before: float, imported: Imported) -> _Seen:
        rows = torch.arange(1, device=loop.device)
        often = getattr(self.params, "cluster_every", None)
        if not self.timed:
            counts = _counted(loop, 1)
            if often:
                counts = counts.plus(_counted(loop, often), self._share(often))
            return _Seen(before, 0.0, 0.0, imported.seconds, counts, self._rounds(loop))
        earlier = imported.seconds
        times = [seconds_of(lambda: loop._step(0, rows), loop.device)]
        first = max(0.0, times[0] - (imported.seconds - earlier))
        while len(times) < 3 or (sum(times) < self.budget_s / 5 and len(times) < 8):
            times.append(seconds_of(lambda: loop._step(len(times), rows), loop.device))
        step = min(times[1:])
        if often:
            look = seconds_of(lambda: loop._step(often, rows), loop.device)
            step += max(0.0, look - step) * self._share(often)
        return _Seen(before, step, first, imported.seconds, Counts(), self._rounds(loop))

    def _share(self, often: int) -> float:
        """Return what an iteration takes of a look at all real images, which are more than here."""
        return max(1.0, self.case.n / POOL) / often

    def _rounds(self, loop: Loop) -> float:
        return loop.schedule.steps / self.params.iterations  # type: ignore[attr-defined,no-any-return]


def _held(corner: _Seen, more: _Seen, least: int, examples: float) -> float:
    """Return the bytes held with so many examples, from what `least` and twice as many hold."""
    each = max(0.0, more.held - corner.held) / least
    return max(corner.held, corner.held + each * (examples - least))


def _peak_anew() -> float:
    """Return the bytes in use, from which the peak is taken; graphs of earlier runs may be in cycles."""
    gc.collect()
    forget_peak()
    return peak_memory()


def _counted(loop: Loop, step: int) -> Counts:
    with Tally() as tally:
        loop._step(step, torch.arange(1, device=loop.device))
    return Counts(tally.flops, tally.traffic, tally.operations)


def _view(case: DistillCase, device: torch.device, folder: Path) -> DistillView:
    """Return stand-in images with labels, experts that walk at random, a teacher and targets."""
    height, _, channels = case.look.shape
    most = POOL if "iterations" in case.method.params else case.n
    count, model = min(case.n, most), registry.load("models", case.model.name, "rehearsal")
    random = torch.Generator().manual_seed(0)
    images = torch.randn(count, channels, height, height, generator=random).to(device)
    labels = (torch.arange(count) % case.look.classes).to(device)
    targets = None if case.width is None else torch.randn(count, case.width, generator=random).to(device)
    view = DistillView(
        real=Examples(images.contiguous(memory_format=torch.channels_last), labels, targets=targets),
        start=torch.arange(case.budget),
        classes=case.look.classes,
        model=model,
        model_params=model.params(**case.model.params),
        experts=(),
        root_seed=0,
        seed=0,
        device=device,
        checkpoint=folder / "checkpoint.safetensors",
        label="rehearsal",
        bounds=torch.tensor([[-2.0], [2.0]]).expand(2, channels).to(device),
        teachers=() if case.teacher is None else (_teacher(case, case.teacher, channels, height),),
    )
    if case.epochs:
        start = flat(view.network(0).parameters()).cpu()
        walk = 0.01 * torch.randn(case.epochs + 1, 1, generator=random).expand(-1, len(start))
        save_file({"weights": (start + walk).contiguous()}, folder / "expert_000.safetensors")
        view = replace(view, experts=(folder / "expert_000.safetensors",))
    return view


def _teacher(case: DistillCase, model: Plugged, channels: int, size: int) -> nn.Module:
    plugin = registry.load("models", model.name, "rehearsal")
    outputs = case.width or case.look.classes
    made = assemble(plugin, plugin.params(**model.params), channels, size, outputs)
    return made.eval()


@contextlib.contextmanager
def _quick_beginnings() -> Iterator[None]:
    """Leave out what stand-in experts know, and the training of a whole pool of networks."""

    def known(view: DistillView) -> tuple[DistillView, Tensor]:
        return view, torch.zeros(len(view.start), view.outputs, device=view.device)

    def drawn(pool: kernel.Pool, _: object) -> None:
        for place in range(len(pool.weights)):
            pool._draw(place, place)

    with (
        mock.patch.object(trajectories, "softened", known),
        mock.patch.object(kernel.Pool, "begin", drawn),
    ):
        yield


@contextlib.contextmanager
def _countable(timed: bool) -> Iterator[None]:
    """Let networks that have derivatives in compiled loops use those of torch, whose operations count."""

    def unsuited(_: object) -> bool:
        """Answer without keeping what is asked about, as a mock does: here every layer's outputs."""
        return False

    with contextlib.ExitStack() as stack:
        for module, name in () if timed else ((planes, "suits"), (convnet_student, "is_convnet")):
            stack.enter_context(mock.patch.object(module, name, unsuited))
        yield
