"""What a rehearsal measures and counts, as plain values that processes can exchange. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

How = Literal["measured", "scaled", "counted"]
"""At the real batch; at a smaller one; not at all, from operations and the speed of a matrix product."""

STEEPEST, APART = 2.5, 16


@dataclass(frozen=True)
class Fit:
    """A quantity at a few sizes n, ascending: exact there, linear between, extrapolated beyond.

    Beyond the largest size, what exceeds the value at the smallest one follows a power of the distance
    from it, whose exponent, 1 to `steepest`, comes from the last size and one of a sixteenth: what two
    neighbours differ by is half noise, which a large n multiplies. Nothing falls with n.
    """

    points: tuple[tuple[int, float], ...]
    steepest: float = STEEPEST

    def at(self, n: int) -> float:
        """Return the quantity at n."""
        sizes, values = zip(*self.points, strict=True)
        if n <= sizes[-1] or len(sizes) == 1:
            return float(np.interp(n, sizes, values))
        least, base, last = sizes[0], values[0], values[-1]
        grown = ((n - least) / (sizes[-1] - least)) ** self.exponent
        return float(last if last <= base else base + (last - base) * grown)

    @property
    def exponent(self) -> float:
        """The power of n that is followed beyond the largest size."""
        if len(self.points) < 3:
            return 1.0
        (least, base), (n2, last) = self.points[0], self.points[-1]
        earlier = [point for point in self.points[1:-1] if APART * point[0] <= n2]
        n1, before = earlier[-1] if earlier else self.points[-2]
        if before <= base or last <= before:
            return 1.0
        grown = math.log((last - base) / (before - base)) / math.log((n2 - least) / (n1 - least))
        return min(self.steepest, max(1.0, grown))


@dataclass(frozen=True)
class Counts:
    """Work of one step or pass: floating-point operations of products and convolutions, bytes that all other
    operations read and write, and the number of operations.
    """

    flops: float = 0.0
    traffic: float = 0.0
    operations: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.flops + other.flops, self.traffic + other.traffic, self.operations + other.operations
        )

    def plus(self, other: Counts, share: float) -> Counts:
        """Return the work with a share of what another one has more."""
        own, others = (
            (self.flops, self.traffic, self.operations),
            (other.flops, other.traffic, other.operations),
        )
        return Counts(*(a + share * max(0.0, b - a) for a, b in zip(own, others, strict=True)))

    def times(self, factor: float) -> Counts:
        """Return the work of a batch that many times as large: as many operations, each of more."""
        return Counts(self.flops * factor, self.traffic * factor, self.operations)


@dataclass(frozen=True)
class Start:
    """A process of a stage before it does anything: seconds and peak resident bytes; seconds where libraries
    are loaded before, if jobs start so on this machine.
    """

    seconds: float
    memory: float
    warm_s: float | None = None


@dataclass(frozen=True)
class TrainMeasure:
    """One trainer with one model, image shape and batch size of `batch` rows.

    Times are of this machine. `first_s`: once per job, what is imported and set up at first use; `imported_s`
    is what the imports take of it and of `overhead_s`.
    `repetition_s`: building and saving a model. A step of b rows takes `step_s + b * row_s`, an image's
    forward pass, which gives `width` features, `forward_s`. `step` and `forward` count the work of a step of
    the full batch and of one image's forward pass. `precision` is the trainer's own word, `precision_here`
    what it means on this machine. Memory and files are in bytes: `activations` by precision at the full
    batch, `device` the peak that a GPU here reported, `memory` the process with all that it imports.
    """

    how: How
    batch: int
    first_s: float
    imported_s: float
    repetition_s: float
    overhead_s: float
    step_s: float
    row_s: float
    forward_s: float
    drop_last: bool
    precision: str
    precision_here: str
    width: int
    step: Counts
    forward: Counts
    weights: float
    state: float
    activations: dict[str, float]
    device: float | None
    memory: float
    model_file: float
    history_file: Fit
    logits_row: float
    recorded_cell: float
    fixed_files: float


@dataclass(frozen=True)
class DistillMeasure:
    """One method of distillation at one size, per repetition.

    `repetition_s` comes before its `steps` iterations, of `step_s` each on this machine; `step` counts one's
    work for another card. `memory` is the process's before it distils, `device` what its tensors take beside
    the real images, on a GPU where there is one; both and `files` are in bytes.
    """

    how: How
    first_s: float
    imported_s: float
    repetition_s: float
    steps: int
    step_s: float
    step: Counts
    memory: float
    device: float
    files: float


@dataclass(frozen=True)
class StageMeasure:
    """One signal, method or protocol: by the number n of examples, per repetition.

    `memory`: peak resident bytes of the process. `files`: bytes per repetition, `fixed_files` per job.
    `columns`, `dtype` and `range`: what a signal gives per example. `share`: chosen positions per example and
    round, of a selection with `rounds`. `splits`: whose images a protocol encodes; `changed`: how often it
    encodes test images that it changed.
    """

    first_s: float
    imported_s: float
    overhead_s: float
    seconds: Fit
    memory: Fit
    files: Fit
    fixed_files: float
    columns: tuple[int, ...] = ()
    dtype: str = ""
    range: tuple[float, float] = (0.0, 1.0)
    share: float = 1.0
    rounds: int = 1
    splits: tuple[str, ...] = ()
    changed: int = 0


def between(low: StageMeasure, high: StageMeasure, weight: float, n: int) -> StageMeasure:
    """Return the measure at n examples that lies `weight` of the way from one to the other."""

    def mixed(a: float, b: float) -> float:
        return a + weight * (b - a)

    def at(a: Fit, b: Fit) -> Fit:
        return Fit(((n, mixed(a.at(n), b.at(n))),))

    return replace(
        low,
        seconds=at(low.seconds, high.seconds),
        memory=at(low.memory, high.memory),
        files=at(low.files, high.files),
        share=mixed(low.share, high.share),
    )


@dataclass
class Measures:
    """All that was measured, by the keys of the cases; `failed` says why a case could not be.

    fractions: the smallest and the largest share of the data at which a family of selections is rehearsed.
    """

    starts: dict[str, Start] = field(default_factory=dict)
    hash_rate: float = 1e9
    train: dict[str, TrainMeasure] = field(default_factory=dict)
    stages: dict[str, StageMeasure] = field(default_factory=dict)
    distill: dict[str, DistillMeasure] = field(default_factory=dict)
    fractions: dict[str, tuple[float, float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def knows(self, key: str) -> bool:
        """Return whether a case was rehearsed, or tried."""
        return any(key in known for known in (self.train, self.stages, self.distill, self.failed))

    def enter(self, key: str, found: TrainMeasure | StageMeasure | DistillMeasure | str) -> None:
        """Add what a case showed, or why it could not be rehearsed."""
        if isinstance(found, TrainMeasure):
            self.train[key] = found
        elif isinstance(found, StageMeasure):
            self.stages[key] = found
        elif isinstance(found, DistillMeasure):
            self.distill[key] = found
        else:
            self.failed[key] = found
