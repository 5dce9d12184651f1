"""The training loop that all trainers share: seeded order, precision, checkpoints, exact resume."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from winnow.errors import UserError
from winnow.seeds import derive
from winnow.stage import log
from winnow.train.engine.checkpoint import load_checkpoint, save_checkpoint
from winnow.train.engine.parallel import is_first, processes, share_file
from winnow.train.engine.task import Task, steps_per_epoch

CHECK_EVERY = 50
"""Steps between two looks at the losses: looking at each one would stall a GPU."""


@dataclass(frozen=True)
class Schedule:
    """Learning rate per step: constant, in steps or half a cosine to zero, after a linear warm-up.

    From each step in `milestones` on, the rate is multiplied by `decay`.
    """

    peak: float
    steps: int
    cosine: bool
    warmup: int = 0
    milestones: tuple[int, ...] = ()
    decay: float = 0.1

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        if not self.cosine:
            return self.peak * self.decay ** sum(step >= milestone for milestone in self.milestones)
        return (
            self.peak
            * 0.5
            * (1 + math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))
        )


@dataclass(frozen=True)
class Passes:
    """Which rows each step shows: epoch after epoch, each in a random order of its own.

    The n rows are `rounds` parts of equal size; epoch e shows part e % rounds. Its batches are as equal as
    can be: a small one at the end would be an update by few examples, the last one before the test, and cost
    points of accuracy. `drop_last` leaves out the rows of an epoch that fill no batch instead. All draws
    depend on (root seed, repetition, context) and the epoch or step alone: a resumed run repeats exactly what
    an uninterrupted one does.
    """

    n: int
    batch_size: int
    root_seed: int
    seed: int
    context: tuple[str | int, ...] = ()
    rounds: int = 1
    drop_last: bool = True

    @classmethod
    def of(cls, task: Task, drop_last: bool) -> Passes:
        return cls(
            len(task.rows), task.batch_size, task.root_seed, task.seed, task.context, task.rounds, drop_last
        )

    @property
    def part(self) -> int:
        """The rows of one epoch."""
        return self.n // self.rounds

    @property
    def per_epoch(self) -> int:
        return steps_per_epoch(self.part, self.batch_size, self.drop_last)

    def order(self, epoch: int) -> np.ndarray:
        """Return the (part,) int64 rows of an epoch in the order in which it shows them."""
        random = np.random.default_rng(self._derive("order", epoch))
        return epoch % self.rounds * self.part + random.permutation(self.part)

    def place(self, step: int) -> tuple[int, slice]:
        """Return the epoch of a step, and where in the epoch's order its batch lies."""
        epoch, batch = divmod(step, self.per_epoch)
        shown = min(self.batch_size, self.part) * self.per_epoch if self.drop_last else self.part
        return epoch, slice(*(place * shown // self.per_epoch for place in (batch, batch + 1)))

    def batches(self, start: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        """Yield (step, rows) for the steps from `start` to before `stop`."""
        shown, order = -1, np.empty(0)
        for step in range(start, stop):
            epoch, place = self.place(step)
            if epoch != shown:
                shown, order = epoch, self.order(epoch)
            yield step, torch.from_numpy(order[place])

    def augmentation_seed(self, step: int) -> int:
        return self._derive("augmentation", step)

    def _derive(self, axis: str, index: int) -> int:
        return derive(self.root_seed, axis, self.seed, *self.context, index)


@dataclass
class Loop:
    """One training run: `step_loss(rows, step)` gives the loss of one batch of rows.

    rows: (batch,) int64 positions into the training rows. An optimiser may ask for the loss of a step
    more than once; each time it has the same random draws. A parameter group of the optimiser may have a
    `scale`, by which the schedule's rate is multiplied. `after_step(step)` follows every update.
    `is_over(epoch)`, asked after each full epoch, ends the run before its last step.
    extras: tensors that are kept in the checkpoint besides the model, and restored in place.
    """

    model: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: Schedule
    step_loss: Callable[[Tensor, int], Tensor]
    passes: Passes
    device: torch.device
    dtype: torch.dtype | None
    checkpoint: Path
    label: str
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    after_step: Callable[[int], None] | None = None
    is_over: Callable[[int], bool] | None = None
    history: Tensor = field(init=False)

    def run(self) -> Tensor:
        """Train to the last step; returns the history (steps taken, 2): loss and learning rate."""
        self.history = torch.zeros(self.schedule.steps, 2, dtype=torch.float32)
        self.carried = {"wall_s": 0.0, "cpu_s": 0.0}
        start = self._resume()
        self.started, self.saved = ((time.perf_counter(), time.process_time()), time.perf_counter())
        pending: list[Tensor] = []
        total = self.schedule.steps
        if self._ends(start):
            return self.history[:start]
        with tqdm(
            total=total, initial=start, desc=self.label, mininterval=5, unit="step", disable=not is_first()
        ) as bar:
            for step, rows in self.passes.batches(start, total):
                pending.append(self._step(step, rows.to(self.device)))
                bar.update()
                ends = self._ends(step + 1)
                if len(pending) == CHECK_EVERY or ends or self._due():
                    self._check(step, pending)
                    pending.clear()
                    if is_first() and (self._due() or ends):
                        self._save(step + 1)
                if ends:
                    return self.history[: step + 1]
        return self.history

    def _ends(self, steps: int) -> bool:
        """Whether the run is over after so many steps."""
        epochs, rest = divmod(steps, self.passes.per_epoch)
        stopped = self.is_over is not None and epochs > 0 and not rest and self.is_over(epochs - 1)
        return stopped or steps == self.schedule.steps

    def _step(self, step: int, rows: Tensor) -> Tensor:
        rate, seed = self.schedule(step), self.passes.augmentation_seed(step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)

        def loss_with_gradient() -> Tensor:
            torch.manual_seed(seed)
            self.optimiser.zero_grad(set_to_none=True)
            with self._autocast():
                loss = self.step_loss(rows, step)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        loss = cast(Tensor, self.optimiser.step(loss_with_gradient))  # type: ignore[arg-type]
        if self.after_step:
            self.after_step(step)
        return loss

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def _check(self, step: int, pending: list[Tensor]) -> None:
        """Record the pending losses; the first one that is not finite ends the run with a clear error."""
        losses = torch.stack(pending).float().cpu()
        first = step + 1 - len(pending)
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            raise self._diverged(f"the loss is {losses[bad[0]].item()}", first + int(bad[0]))
        self.history[first : step + 1, 0] = losses
        self.history[first : step + 1, 1] = torch.tensor([self.schedule(i) for i in range(first, step + 1)])

    def _diverged(self, what: str, step: int) -> UserError:
        saved = f"{self.checkpoint} (step {self.last_saved})" if self.checkpoint.is_file() else "none yet"
        return UserError(
            f"{self.label}: {what} at step {step} (learning rate {self.schedule(step):.3g}); last good "
            f"checkpoint: {saved}. Lower the learning rate or set precision: fp32 in the suite."
        )

    def _due(self) -> bool:
        """Whether to save: every 20 s by default, and never more than 2 % of the time."""
        interval = float(os.environ.get("WINNOW_CHECKPOINT_SECONDS", "20"))
        return time.perf_counter() - self.saved > max(interval, 50 * self.save_seconds)

    last_saved = 0
    save_seconds = 0.0

    def _save(self, step: int) -> None:
        if not all(torch.isfinite(value).all() for value in self.model.state_dict().values()):
            raise self._diverged("a weight is not finite", step - 1)
        begun = time.perf_counter()
        wall, cpu = self.started
        spent = {"wall_s": begun - wall, "cpu_s": (time.process_time() - cpu) * processes()}
        progress = {"step": step, "spent": {key: self.carried[key] + value for key, value in spent.items()}}
        save_checkpoint(self.checkpoint, self.model, self.optimiser, self.history, progress, self.extras)
        self.last_saved, self.saved = step, time.perf_counter()
        self.save_seconds = self.saved - begun

    def _resume(self) -> int:
        share_file(self.checkpoint, self.device)
        found = load_checkpoint(self.checkpoint, self.model, self.optimiser, self.extras)
        if found is None:
            return 0
        self.history, progress = found
        self.last_saved, self.carried = int(progress["step"]), progress["spent"]
        if is_first():
            log(f"{self.label}: resumed at step {self.last_saved} of {self.schedule.steps}")
        return self.last_saved
