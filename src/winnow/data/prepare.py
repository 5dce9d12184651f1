"""Decoded datasets: from published files to memory-mapped arrays that every later stage reads."""

from __future__ import annotations

import errno
import json
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import numpy as np

from winnow.data.arrays import ArrayRef, integer_labels, load_array
from winnow.data.batch import BATCH, Images, Labels, chunks
from winnow.data.dataset import WHITENING
from winnow.data.lazy import ImageSource, lazy_images
from winnow.data.splitwriter import SplitWriter
from winnow.data.whitening import whitening_of
from winnow.errors import UserError, unknown
from winnow.plan.catalogue import DatasetEntry, Relabel, reader_module
from winnow.store import save_array

SAMPLE = 10_000
"""Images, evenly spread, of which the statistics of images in shards are."""


def prepare(
    entry: DatasetEntry,
    files: dict[str, Path],
    out: Path,
    limits: dict[str, int] | None = None,
    seed: int = 0,
    pool: Sequence[str] = ("train",),
    holdout: int = 0,
    whitened: bool = False,
) -> None:
    """Decode a dataset into the empty folder `out`.

    files: local path of each of the entry's files, by name. limits: number of examples to keep of a split,
    chosen at random with `seed` in proportion to the classes; the published order and identifiers stay. pool:
    the splits that methods choose from, in this order. holdout: number of training examples to cut off first,
    drawn in the same way, as the split `validation`. whitened: for networks that see whitened images.

    Writes per split `<split>_images.npy` (uint8 n, h, w, c), `<split>_labels.npy` (int64 n) and
    `<split>_table.parquet` where the data have them, `<split>_ids.parquet`, and `dataset.json`; for
    relabelled data also `train_clean_labels.npy`, for swapped captions `train_swapped.npy` (bool n), for
    whitened data `whitening.npy`, see `whitening_of`, of the training images. Images that stay in shards are
    not written: in place of their array, `<split>_shards.parquet` says where they lie. Peak memory: one batch
    of images, all labels and tables; to whiten, a few matrices of (h w c)^2.
    Of data of kind `benchmark` there is `dataset.json` alone: their images stay as they are published.
    Raises `UserError` if the files are not what the entry states.
    """
    limits = limits or {}
    if entry.kind == "benchmark":
        _check_there(entry, files)
        facts = reader_module(entry.reader).describe(entry, files)
        (out / "dataset.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        return
    _check_inputs(entry, files, limits, pool)
    writers = {str(split): SplitWriter(entry, split, n, out) for split, n in entry.splits.items()}
    classes: tuple[str, ...] = ()
    with _disk_errors(out):
        for batch in reader_module(entry.reader).read(entry, files):
            if batch.split not in writers:
                raise unknown("split", batch.split, writers, f"datasets.yaml: {entry.name}.splits")
            writers[batch.split].add(batch)
            classes = classes or batch.classes
        train = writers["train"]
        if entry.relabel is not None:
            train.relabel(_labels_from(entry.relabel, files, train, seed))
        if holdout:
            writers["validation"] = train.cut(holdout, "validation", seed)
        for split, writer in writers.items():
            writer.settle(limits.get(split), seed)
        if entry.recaption is not None:
            train.recaption(entry.recaption, seed)
        for writer in writers.values():
            writer.write()
        data = next((path.parent.parent for path in files.values()), out)
        facts = _facts(entry, classes, writers, limits, seed, data) | {"pool": list(pool)}
        if whitened:
            images = np.load(out / "train_images.npy", mmap_mode="r", allow_pickle=False)
            save_array(out / WHITENING, whitening_of(images))
        (out / "dataset.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _check_inputs(
    entry: DatasetEntry, files: dict[str, Path], limits: dict[str, int], pool: Sequence[str]
) -> None:
    _check_there(entry, files)
    counts = {str(split): n for split, n in entry.splits.items()}
    for key, names in (("limits", limits), ("pool", pool)):
        for split in names:
            if split not in counts:
                raise unknown("split", split, counts, f"{entry.name}: {key}")
    for split, keep in limits.items():
        if not 1 <= keep <= counts[split]:
            accepted = f"Accepted: 1 to {counts[split]}."
            raise UserError(f"{entry.name}: limits.{split}: {keep} examples cannot be kept. {accepted}")


def _check_there(entry: DatasetEntry, files: dict[str, Path]) -> None:
    for name in entry.sources():
        if name not in files or not files[name].is_file():
            raise UserError(
                f"{entry.name}: the file '{files.get(name, name)}' is missing; download it first."
            )


def _labels_from(relabel: Relabel, files: dict[str, Path], train: SplitWriter, seed: int) -> Labels:
    """Return published labels, or the split's own with a share of them replaced by other classes."""
    if relabel.file is not None:
        reference = ArrayRef(file=relabel.file, array=relabel.array)
        return integer_labels(load_array(reference, files), f"{files[relabel.file]}: {relabel.array}")
    assert relabel.symmetric is not None
    labels, classes = train.whole_labels(), train.entry.class_count or 1
    rng = np.random.default_rng([seed, zlib.crc32(b"relabel")])
    wrong = rng.permutation(len(labels))[: round(relabel.symmetric * len(labels))]
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + rng.integers(1, classes, size=len(wrong))) % classes
    return noisy


@contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(out).free
        raise UserError(
            f"{out}: no space left to write the decoded data ({free / 1e6:.0f} MB free)."
        ) from error


def _facts(
    entry: DatasetEntry,
    found: tuple[str, ...],
    writers: dict[str, SplitWriter],
    limits: dict[str, int],
    seed: int,
    data: Path,
) -> dict[str, Any]:
    """Return what `dataset.json` states; the mean and standard deviation are of the training images.

    data: the folder with the downloads of all datasets.
    """
    train, more = writers["train"], {}
    is_pixels = train.images is not None and train.images.dtype == np.uint8
    images: ImageSource | None = cast(Images, train.images) if is_pixels else None
    if train.shards:
        lazy = lazy_images(train.shards, entry, data)
        sample = np.unique(np.linspace(0, len(lazy) - 1, SAMPLE).astype(np.int64))
        images, more = lazy.rows(sample), {"statistics_sample": len(sample), "shards": lazy.sizes}
    if train.shards or any(writer.counts for writer in writers.values()):
        more["left_out"] = {split: dict(sorted(writer.counts.items())) for split, writer in writers.items()}
    mean, std = (None, None) if images is None else channel_statistics(images)
    return more | {
        "name": entry.name,
        "title": entry.title,
        "kind": entry.kind,
        "licence": entry.licence,
        "homepage": entry.homepage,
        "shape": entry.shape,
        "classes": _class_names(entry, found),
        "splits": {split: {"n": writer.n, "of": writer.of} for split, writer in writers.items()},
        "limits": limits,
        "seed": seed,
        "mean": mean,
        "std": std,
        "reader": entry.reader,
        "options": entry.options,
        "files": {file.name: dict([file.checksum]) for file in entry.files},
    }


def _class_names(entry: DatasetEntry, found: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that the entry gives, else those in the files, else the labels as text."""
    where = f"datasets.yaml: {entry.name}"
    if entry.classes and found:
        for label, (stated, read) in enumerate(zip_longest(entry.classes, found)):
            if stated != read:
                raise UserError(f"{where}.classes[{label}]: '{stated}', but the files say '{read}'.")
    if found and len(found) != entry.class_count:
        raise UserError(f"{where}.n_classes: {entry.class_count}, but the files name {len(found)}.")
    return entry.classes or found or tuple(str(label) for label in range(entry.class_count or 0))


def channel_statistics(images: ImageSource) -> tuple[list[float], list[float]]:
    """Return the mean and (population) standard deviation of each channel, of values scaled to [0, 1].

    Exact: the sums of uint8 images (n, h, w, c) and of their squares are kept as integers.
    """
    values = np.arange(256, dtype=np.int64)
    histogram = np.zeros((images.shape[-1], 256), dtype=np.int64)
    for part in chunks(len(images), BATCH):
        for channel in range(images.shape[-1]):
            histogram[channel] += np.bincount(images[part][..., channel].ravel(), minlength=256)
    count = int(histogram[0].sum())
    first, second = (histogram @ values) / count, (histogram @ values**2) / count
    std = np.sqrt(np.maximum(second - first**2, 0))
    return (first / 255).tolist(), (std / 255).tolist()
