"""Batches of image-text pairs, decoded ahead of the training step by other processes.

Which rows a step shows is `Passes`' choice alone, so that the batches are the same for any number of workers,
and for a run that was resumed. Images come from whatever reads like an array (`ImageSource`): a memory map,
or shards whose pixels are decoded when they are asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from winnow.data.lazy import ImageSource
from winnow.errors import UserError
from winnow.train.engine.loop import Passes

AHEAD = 2
"""Batches that each worker keeps ready."""

Tokenise = Callable[[list[str]], Tensor]
"""Texts to int64 tokens (b, L), as open_clip's tokenizers do."""


class Captions:
    """Texts, one or several of an example, in one buffer: processes share it, where a list of strings would
    be copied by being counted.
    """

    def __init__(self, captions: Sequence[list[str]]) -> None:
        encoded = [text.encode() for own in captions for text in own]
        self.ends = np.cumsum([0] + [len(text) for text in encoded], dtype=np.int64)
        self.buffer = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self.firsts = np.cumsum([0] + [len(own) for own in captions], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.firsts) - 1

    def draw(self, rows: np.ndarray, seed: int) -> list[str]:
        """Return a caption of each of these examples, each of its own ones with equal chance."""
        firsts, counts = self.firsts[rows], np.diff(self.firsts)[rows]
        drawn = (np.random.default_rng(seed).random(len(rows)) * counts).astype(np.int64)
        return [self._text(place) for place in firsts + drawn]

    def _text(self, place: int) -> str:
        return self.buffer[self.ends[place] : self.ends[place + 1]].tobytes().decode()


@dataclass(frozen=True)
class _Steps(Sampler[tuple[int, np.ndarray]]):
    """The steps to come, each with the rows of the pool that it shows."""

    rows: np.ndarray
    passes: Passes
    start: int
    stop: int

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        for step, places in self.passes.batches(self.start, self.stop):
            yield step, self.rows[places.numpy()]

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class _Batches(Dataset[tuple[int, Tensor, Tensor, str]]):
    """Reads the batch of one step: images (b, h, w, c) uint8, tokens (b, L) int64, and what went wrong."""

    source: ImageSource
    captions: Captions
    tokenise: Tokenise
    seed: Callable[[int], int]

    def __getitem__(self, step_and_rows: tuple[int, np.ndarray]) -> tuple[int, Tensor, Tensor, str]:
        step, rows = step_and_rows
        try:
            images = torch.from_numpy(np.asarray(self.source[rows]))
        except UserError as error:  # it would cross to the trainer's process with a traceback in its message
            return step, torch.empty(0), torch.empty(0), str(error)
        return step, images, self.tokenise(self.captions.draw(rows, self.seed(step))).long(), ""


class Stream:
    """The batches of the steps from `start` to before `stop`, in order; a context manager.

    source: images (n, h, w, c) uint8 of the pool. captions: those of each of the n; a step shows one of them.
    rows: (m,) int64 positions in the pool; `passes` says which of these each step shows. workers: processes
    that decode ahead; 0 decodes in this one, when asked. tokenise: texts to int64 (b, L), called in the
    workers. device: where batches are put.
    """

    def __init__(
        self,
        source: ImageSource,
        captions: Sequence[list[str]],
        rows: np.ndarray | Tensor,
        passes: Passes,
        start: int,
        stop: int,
        workers: int,
        tokenise: Tokenise,
        device: torch.device,
    ) -> None:
        if len(source) != len(captions):
            raise ValueError(f"{len(source)} images but {len(captions)} captions")
        self.device, self.stop, self.workers = device, stop, workers
        self.step, self.pair = start - 1, (torch.empty(0), torch.empty(0))
        self.began, self.ended, self.waited = time.perf_counter(), 0.0, 0.0
        places = rows.cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows)
        more: dict[str, Any] = {"prefetch_factor": AHEAD} if workers else {}
        self._loader: DataLoader[tuple[int, Tensor, Tensor, str]] = DataLoader(
            _Batches(source, Captions(captions), tokenise, passes.augmentation_seed),
            batch_size=None,
            sampler=_Steps(places, passes, start, stop),
            num_workers=workers,
            pin_memory=device.type == "cuda",
            **more,
        )
        self._batches: Iterator[tuple[int, Tensor, Tensor, str]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return a step's images, (b, c, h, w) uint8, and tokens, (b, L) int64, on the device.

        The steps have to be asked for in order; the last one may be asked for again. Raises `UserError` where
        an image cannot be read or a worker has died.
        """
        if step == self.step:
            return self.pair
        if step != self.step + 1 or step >= self.stop:
            raise ValueError(f"step {step} was asked for; the next is {self.step + 1}, the end {self.stop}")
        began = time.perf_counter()
        _, images, tokens, problem = self._next()
        if problem:
            raise UserError(problem)
        images, tokens = (part.to(self.device, non_blocking=True) for part in (images, tokens))
        self.step, self.pair = step, (images.permute(0, 3, 1, 2), tokens)
        self.waited += time.perf_counter() - began
        return self.pair

    @property
    def waited_share(self) -> float:
        """Return the share of the time since the start for which the training has waited for data."""
        return self.waited / ((self.ended or time.perf_counter()) - self.began)

    def close(self) -> None:
        """End the workers; the share of waiting is final."""
        self.ended = self.ended or time.perf_counter()
        self._batches = None

    def _next(self) -> tuple[int, Tensor, Tensor, str]:
        if self.ended:
            raise ValueError("the stream is closed")
        try:
            if self._batches is None:
                self._batches = iter(self._loader)
            return next(self._batches)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"A process that loads batches has died ({str(error).splitlines()[0]}): out of memory, or of "
                f"shared memory in /dev/shm. Give the job more memory or fewer workers (now {self.workers}); "
                "the training continues from its last checkpoint."
            ) from error
