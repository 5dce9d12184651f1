"""Training dynamics: what the ordinary forward passes say of each example, one column per epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from winnow.store import save_array
from winnow.train.engine.loop import Passes


class Dynamics:
    """Loss and margin of every row of every epoch, kept on the device in the order they were shown.

    A batch is one slice, so recording costs two small copies. margin: logit of the assigned class
    minus the largest other one; an example is classified correctly when it is positive.
    """

    def __init__(self, passes: Passes, steps: int, device: torch.device) -> None:
        self.passes, self.seen = passes, -1
        shape = (passes.place(steps - 1)[0] + 1, passes.part)
        self.loss = torch.full(shape, torch.nan, device=device)
        self.margin = torch.full(shape, torch.nan, device=device)

    @torch.no_grad()
    def record(self, step: int, logits: Tensor, labels: Tensor) -> None:
        """Note one batch: logits (b, classes), labels (b,). Only the first pass of a step counts."""
        if step == self.seen:
            return
        self.seen, place = step, self.passes.place(step)
        labels = labels[:, None]
        assigned = logits.gather(1, labels)[:, 0]
        self.loss[place] = logits.logsumexp(1) - assigned
        self.margin[place] = assigned - logits.scatter(1, labels, -torch.inf).amax(1)

    def slows_at(self, epoch: int, share: float) -> bool:
        """Whether the training error fell in this epoch by no more than a share of its largest fall so far.

        The error of an epoch is that of its forward passes. The first has none to fall from.
        """
        errors = (self.margin[: epoch + 1] <= 0).double().mean(1)
        falls = errors[:-1] - errors[1:]
        return len(falls) > 0 and bool(falls[-1] <= share * falls.max().clamp_min(0))

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        return {"dynamics.loss": self.loss, "dynamics.margin": self.margin}

    def save(self, folder: Path, rows: np.ndarray, n: int) -> None:
        """Write `loss.npy` and `margin.npy` (n, epochs) float32, NaN where unseen, and `correct.npy` uint8.

        rows: positions of the training rows among the n examples. Of an example shown several times in
        an epoch the last counts. An epoch that was never begun has no column.
        """
        folder.mkdir(exist_ok=True)
        begun = ~self.loss.isnan().all(1)
        loss, margin = (self._columns(values[begun], rows, n) for values in (self.loss, self.margin))
        save_array(folder / "loss.npy", loss)
        save_array(folder / "margin.npy", margin)
        save_array(folder / "correct.npy", (margin > 0).astype(np.uint8))

    def _columns(self, values: Tensor, rows: np.ndarray, n: int) -> np.ndarray:
        columns = np.full((n, len(values)), np.nan, np.float32)
        for epoch, shown in enumerate(values.cpu().numpy()):
            is_seen = ~np.isnan(shown)
            columns[rows[self.passes.order(epoch)][is_seen], epoch] = shown[is_seen]
        return columns
