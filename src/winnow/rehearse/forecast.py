"""From measurements of cases to a forecast for every job of a plan."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from winnow.distill.engine.real import VALIDATION
from winnow.plan.specs import (
    DistillSpec,
    EvaluateSpec,
    PrepareSpec,
    Ref,
    SelectSpec,
    SignalSpec,
    Spec,
    TrainSpec,
)
from winnow.rehearse.book import Book, encodes, experts_of, is_trajectory, loads_models
from winnow.rehearse.cards import Card
from winnow.rehearse.contests import trainings_of
from winnow.rehearse.measures import DistillMeasure, Fit, StageMeasure, TrainMeasure
from winnow.train.engine.features import BATCH

SELECTION_LIMIT = 3 * 2.0 * 2**30
"""Selections cut their work so that up to three arrays of `View.memory_gb` live at once."""

# Assumed of reading published files, which cannot be rehearsed without them.
PACKED_IMAGE_S, PLAIN_IMAGE_S, ARCHIVE_RATE = 2.5e-4, 2e-5, 1e8

# Of whitening images of d numbers, measured at d = 3072 on one core: seconds of the covariance per image and
# d^2, seconds of the eigenvectors per d^3, and matrices of float64 in memory at once.
COVARIANCE_S, EIGENVECTORS_S, MATRICES = 2.1e-11, 2.9e-10, 6

# Of an image of a test set that stays as it is published: bytes, and seconds of one processor to decode it.
PUBLISHED_BYTES, DECODED_S = 1.2e5, 8e-3

# Of a pair whose image stays in its shard: seconds, and bytes on disk and in memory of its place, caption and
# address; and the seconds of the images that the statistics are of.
SHARDED_PAIR_S, SHARDED_PAIR_BYTES, SHARDED_PAIR_MEMORY, SAMPLED_S = 2e-5, 150.0, 1000.0, 60.0


def memory_in_batches(memory: Fit, n: int, row: float) -> float:
    """Return the memory of passing n images through a model, from runs of a few sizes.

    Up to a batch every image adds its activations; beyond, and this is fitted where it was seen, what is kept
    of it: at least its pixels and twice its outputs, `row` bytes, while their parts are put together. One run
    alone does not tell what an image adds.
    """
    sizes, values = np.array(memory.points).T
    if len(sizes) == 1:
        return float(values[0] + row * (n - sizes[0]))
    rest = values - row * sizes
    terms = np.stack([np.ones_like(sizes), np.minimum(sizes, BATCH), np.maximum(sizes - BATCH, 0)], axis=1)
    (base, active, kept), _ = nnls(terms, np.maximum(rest, 0))
    return float(base + active * min(n, BATCH) + kept * max(n - BATCH, 0) + row * n)


def encoding_memory(measure: StageMeasure, sizes: dict[str, int], width: int, image_bytes: int) -> float:
    """Return the memory of a protocol: its own, its images once, and features with a scaled copy of them."""
    least, images = measure.memory.points[0][0], sum(sizes.get(split, 0) for split in measure.splits)
    rows = max(least, sizes["train"]) if "train" in measure.splits else least
    return memory_in_batches(measure.memory, rows, 2 * 4.0 * width) + images * image_bytes


@dataclass(frozen=True)
class Forecast:
    """What one job will take: `wall_s` within the job, `start_s` before it, memory and files in bytes.

    `how` is the weakest of the measurements behind it: measured, scaled, counted, or assumed.
    """

    reference: Ref
    stage: str
    start_s: float
    wall_s: float
    host: float
    device: float | None
    files: float
    how: str

    @property
    def seconds(self) -> float:
        return self.start_s + self.wall_s


@dataclass(frozen=True)
class Forecaster:
    """Forecasts jobs for this machine or, with a card, for that GPU beside this machine's processor."""

    book: Book
    card: Card | None = None

    def all(self) -> Iterator[Forecast]:
        """Yield a forecast for every job whose case could be rehearsed."""
        for reference, spec in self.book.specs.items():
            if self.missing(spec) is None:
                yield self.one(reference, spec)

    def missing(self, spec: Spec) -> str | None:
        """Return why a job has no forecast, or None."""
        if isinstance(spec, PrepareSpec):
            return None
        key = self.book.key(spec)
        if isinstance(spec, DistillSpec):
            known = key in self.book.measures.distill
        elif isinstance(spec, TrainSpec) or (isinstance(spec, EvaluateSpec) and spec.judge is not None):
            known = key in self.book.measures.train
        else:
            assert isinstance(spec, SignalSpec | SelectSpec | EvaluateSpec)
            known = self.book.stage_measure(spec) is not None
        return None if known else self.book.measures.failed.get(key, "what it reads could not be rehearsed")

    def one(self, reference: Ref, spec: Spec) -> Forecast:
        if isinstance(spec, PrepareSpec):
            return self._prepare(reference, spec)
        if isinstance(spec, TrainSpec):
            return self._train(reference, spec)
        if isinstance(spec, DistillSpec):
            return self._distill(reference, spec)
        if isinstance(spec, EvaluateSpec) and spec.judge is not None:
            return self._rank(reference, spec)
        return self._other(reference, spec)

    def _train(self, reference: Ref, spec: TrainSpec) -> Forecast:
        measure = self.book.measures.train[self.book.train_key(spec)]
        pool, look = self.book.pool(spec.data), self.book.look(spec.data)
        scored = 0 if spec.is_proxy else self.book.measured(spec.data)
        length = self.book.length(spec, measure.drop_last)
        each = measure.repetition_s + self._steps(measure, length.steps, length.rows)
        each += scored * self._forward(measure)
        images = self.book.held(spec.data)
        reading = (images + scored * len(spec.seeds) * look.image_bytes) / self.book.measures.hash_rate
        files = measure.model_file + measure.history_file.at(length.steps) + measure.logits_row * scored
        files += measure.recorded_cell * pool * length.epochs
        if is_trajectory(spec.trainer):
            files += measure.weights * (length.epochs + experts_of(spec.trainer))
        tensors = 2 * measure.weights + measure.state + measure.activations[self._precision(measure)]
        if self.card is None and measure.device is None:
            # The images are once in the file's pages and once in the tensor made of them.
            host, device = measure.memory + 2 * images + tensors, None
        else:
            host, device = measure.memory + 2 * images, images + (measure.device or tensors)
        return self._forecast(
            reference,
            wall_s=self._once(spec, measure) + reading + len(spec.seeds) * each,
            host=host,
            device=device,
            files=measure.fixed_files + len(spec.seeds) * files,
            how=measure.how if self.card is None else "counted",
        )

    def _precision(self, measure: TrainMeasure) -> str:
        if self.card is not None:
            return self.card.precision(measure.precision)
        return measure.precision_here

    def _steps(self, measure: TrainMeasure, steps: int, rows: float) -> float:
        if self.card is None:
            return steps * measure.step_s + rows * measure.row_s
        step = measure.step.times(rows / steps / measure.batch)
        return steps * self.card.seconds(step, self.card.precision(measure.precision))

    def _forward(self, measure: TrainMeasure) -> float:
        """Return the seconds of one image's forward pass in a large batch, in float32."""
        if self.card is None:
            return measure.forward_s
        return self.card.seconds(measure.forward.times(512), "fp32") / 512

    def _other(self, reference: Ref, spec: Spec) -> Forecast:
        assert isinstance(spec, SignalSpec | SelectSpec | EvaluateSpec)
        measure = self.book.stage_measure(spec)
        assert measure is not None
        n, how = self.book.pool(spec.data), "measured"
        host, each, files = measure.memory.at(n), measure.seconds.at(n), measure.files.at(n)
        if isinstance(spec, SignalSpec):
            files = 128.0 + n * math.prod(measure.columns) * np.dtype(measure.dtype).itemsize
        if isinstance(spec, SignalSpec) and loads_models(spec.signal):
            proxy = self.book.measures.train[self.book.train_key(self.book.proxies(spec)[0])]
            each, how = each * self._forward(proxy) / proxy.forward_s, proxy.how
            kept = self.book.held(spec.data) + 2 * files
            host = memory_in_batches(measure.memory, n, kept / n)
        if isinstance(spec, SelectSpec):
            host = min(host, self.book.measures.starts[spec.stage].memory + SELECTION_LIMIT)
        if isinstance(spec, EvaluateSpec) and encodes(spec.protocol):
            subject = self.book.specs[spec.subject]
            assert isinstance(subject, TrainSpec)
            model = self.book.measures.train[self.book.train_key(subject)]
            sizes = self.book.sizes(spec.data)
            each = measure.seconds.at(sizes["train"])
            host = encoding_memory(measure, sizes, model.width, self.book.look(spec.data).image_bytes)
            further, decoded = self.book.transferred(spec, measure.splits)
            shown = sum(sizes.get(split, 0) for split in measure.splits) + further
            shown += measure.changed * min(sizes["test"], spec.protocol.params.get("shifted", sizes["test"]))
            each += shown * self._forward(model) + decoded * DECODED_S
            how = model.how
        return self._forecast(
            reference,
            wall_s=self._once(spec, measure) + len(spec.seeds) * each,
            host=host,
            device=None,
            files=measure.fixed_files + len(spec.seeds) * files,
            how=how,
        )

    def _distill(self, reference: Ref, spec: DistillSpec) -> Forecast:
        measure = self.book.measures.distill[self.book.distill_key(spec)]
        step_s = measure.step_s if self.card is None else self.card.seconds(measure.step, "fp32")
        images = 4.0 * self.book.pool(spec.data) * self.book.look(spec.data).image_bytes
        each = measure.repetition_s + measure.steps * step_s
        return self._forecast(
            reference,
            wall_s=self._once(spec, measure) + len(spec.seeds) * each,
            host=measure.memory + images + (measure.device if self.card is None else 0.0),
            device=None if self.card is None else measure.device + images,
            files=len(spec.seeds) * measure.files,
            how=measure.how,
        )

    def _rank(self, reference: Ref, spec: EvaluateSpec) -> Forecast:
        """Forecast a ranking by the networks that it trains, tunes and tests."""
        assert spec.judge is not None
        measure = self.book.measures.train[self.book.judge_key(spec)]
        n, sizes, look = self.book.pool(spec.data), self.book.sizes(spec.data), self.book.look(spec.data)
        validation, each = sizes.get("validation", VALIDATION * n), 0.0
        for arm in trainings_of(spec, self.book.specs[spec.subject]):
            examples = n if arm.on_all else self.book.set_size(spec)
            rows = arm.steps * min(spec.judge.batch_size, examples)
            each += arm.networks * (measure.repetition_s + self._steps(measure, arm.steps, rows))
            shown = arm.tried * validation + arm.kept * (sizes["test"] + validation + n * arm.teach)
            shown += arm.taught * arm.networks * rows
            each += shown * self._forward(measure)
        kept = 0.0
        if spec.judge.taught is not None and spec.beside is None:
            kept = measure.weights * int(spec.protocol.params["networks"])
        images = 4.0 * (n + sizes["test"]) * math.prod(look.shape)
        tensors = 2 * measure.weights + measure.state + measure.activations[self._precision(measure)]
        own = 0.0 if self.card is None and measure.device is None else measure.device or tensors
        return self._forecast(
            reference,
            wall_s=self._once(spec, measure) + len(spec.seeds) * each,
            host=measure.memory + 2 * images + (0.0 if own else tensors),
            device=images + own if own else None,
            files=measure.fixed_files + (1e4 + kept) * len(spec.seeds),
            how=measure.how if self.card is None else "counted",
        )

    def _prepare(self, reference: Ref, spec: PrepareSpec) -> Forecast:
        look, sizes = self.book.look(reference), self.book.sizes(reference)
        if spec.entry["kind"] == "benchmark":
            host = self.book.measures.starts["prepare"].memory
            wall_s = 1.0 + sizes["test"] * PUBLISHED_BYTES / self.book.measures.hash_rate
            return self._forecast(reference, wall_s=wall_s, host=host, device=None, files=5e4, how="assumed")
        published = sum(spec.entry["splits"].values())
        is_packed = spec.entry["reader"] == "image_archive"
        wall_s = 1.0 + published * (PACKED_IMAGE_S if is_packed else PLAIN_IMAGE_S)
        wall_s += sum(file["bytes"] for file in spec.entry["files"]) / ARCHIVE_RATE
        # An image, a label, and about eight bytes of a compressed identifier.
        files = 5000 + sum(sizes.values()) * (look.image_bytes + 16)
        files += 8 * sizes["train"] if spec.entry.get("relabel") else 0
        host = self.book.measures.starts["prepare"].memory + 2e8
        if spec.seen == "zca":
            d = math.prod(look.shape)
            wall_s += sizes["train"] * d**2 * COVARIANCE_S + d**3 * EIGENVECTORS_S
            files, host = files + 4 * d * (d + 1), host + MATRICES * 8 * d**2
        if spec.entry["reader"] == "webdataset":
            wall_s = SAMPLED_S + published * SHARDED_PAIR_S
            files, host = published * SHARDED_PAIR_BYTES, host + published * SHARDED_PAIR_MEMORY
        return self._forecast(reference, wall_s=wall_s, host=host, device=None, files=files, how="assumed")

    def _once(self, spec: Spec, measure: TrainMeasure | StageMeasure | DistillMeasure) -> float:
        """Return the seconds beside all repetitions; libraries count where a job starts from nothing."""
        once = measure.first_s + (0.0 if isinstance(measure, DistillMeasure) else measure.overhead_s)
        is_warm = self.book.measures.starts[spec.stage].warm_s is not None
        return max(0.0, once - measure.imported_s) if is_warm else once

    def _forecast(
        self, reference: Ref, *, wall_s: float, host: float, device: float | None, files: float, how: str
    ) -> Forecast:
        stage = reference.split("/")[0]
        start = self.book.measures.starts[stage]
        start_s = start.seconds if start.warm_s is None else start.warm_s
        if self.card is not None and device is not None:
            start_s += self.card.assumed.start_s
            host += self.card.assumed.host_gb * 1e9
            device += self.card.assumed.context_gb * 1e9
        return Forecast(reference, stage, start_s, wall_s, host, device, files, how)
