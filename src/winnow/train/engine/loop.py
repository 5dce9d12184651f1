"""The training loop that all trainers share: seeded order, precision, checkpoints, exact resume."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from winnow.errors import UserError
from winnow.seeds import derive
from winnow.stage import log
from winnow.train.engine.checkpoint import load_checkpoint, save_checkpoint

CHECK_EVERY = 50
"""Steps between two looks at the losses: looking at each one would stall a GPU."""


@dataclass(frozen=True)
class Schedule:
    """Learning rate per step: constant or half a cosine to zero, after a linear warm-up."""

    peak: float
    steps: int
    cosine: bool
    warmup: int = 0

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        if not self.cosine:
            return self.peak
        return (
            self.peak
            * 0.5
            * (1 + math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))
        )


@dataclass
class Loop:
    """One training run: `step_loss(rows, step)` gives the loss of one batch of rows.

    rows: (batch,) int64 positions into the training rows. The order of epoch e depends only on
    (root seed, repetition, e), augmentation only on (root seed, repetition, step): a resumed run
    repeats exactly what an uninterrupted one does.
    """

    model: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: Schedule
    step_loss: Callable[[Tensor, int], Tensor]
    n: int
    batch_size: int
    root_seed: int
    seed: int
    device: torch.device
    dtype: torch.dtype | None
    checkpoint: Path
    label: str
    history: Tensor = field(init=False)

    def run(self) -> Tensor:
        """Train to the last step; returns the history (steps, 2): loss and learning rate."""
        self.history = torch.zeros(self.schedule.steps, 2, dtype=torch.float32)
        self.carried = {"wall_s": 0.0, "cpu_s": 0.0}
        start = self._resume()
        self.started, self.saved = ((time.perf_counter(), time.process_time()), time.perf_counter())
        pending: list[Tensor] = []
        total = self.schedule.steps
        with tqdm(total=total, initial=start, desc=self.label, mininterval=5, unit="step") as bar:
            for step, rows in self._batches(start):
                pending.append(self._step(step, rows))
                bar.update()
                if len(pending) == CHECK_EVERY or step + 1 == total or self._due():
                    self._check(step, pending)
                    pending.clear()
                    if self._due() or step + 1 == total:
                        self._save(step + 1)
        return self.history

    def _batches(self, start: int) -> Iterator[tuple[int, Tensor]]:
        size = min(self.batch_size, self.n)
        per_epoch, epoch, order = self.n // size, -1, torch.empty(0)
        for step in range(start, self.schedule.steps):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                random = np.random.default_rng(derive(self.root_seed, "order", self.seed, epoch))
                order = torch.from_numpy(random.permutation(self.n))
            position = step % per_epoch * size
            yield step, order[position : position + size].to(self.device)

    def _step(self, step: int, rows: Tensor) -> Tensor:
        rate = self.schedule(step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        torch.manual_seed(derive(self.root_seed, "augmentation", self.seed, step))
        with self._autocast():
            loss = self.step_loss(rows, step)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()

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
        spent = {"wall_s": begun - wall, "cpu_s": time.process_time() - cpu}
        progress = {"step": step, "spent": {key: self.carried[key] + value for key, value in spent.items()}}
        save_checkpoint(self.checkpoint, self.model, self.optimiser, self.history, progress)
        self.last_saved, self.saved = step, time.perf_counter()
        self.save_seconds = self.saved - begun

    def _resume(self) -> int:
        found = load_checkpoint(self.checkpoint, self.model, self.optimiser)
        if found is None:
            return 0
        self.history, progress = found
        self.last_saved, self.carried = int(progress["step"]), progress["spent"]
        log(f"{self.label}: resumed at step {self.last_saved} of {self.schedule.steps}")
        return self.last_saved
