"""Test sets for models of images and text, in clip-benchmark's layout: see `winnow.data.hub`.

Their images stay in the shards, of any size; whoever measures a model on them gives them its own size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from winnow.data.batch import Batch
from winnow.data.hub import CLASSES, SET, TEMPLATES, damaged_files, lines
from winnow.errors import UserError
from winnow.plan.catalogue import HUBBED, DatasetEntry, ReaderOptions
from winnow.store import read_json


class Options(ReaderOptions):
    """Options of the reader `clip_benchmark`: none."""


def read(entry: DatasetEntry, files: Mapping[str, Path]) -> Iterator[Batch]:
    """Yield nothing: `describe` says all that there is to prepare."""
    return iter(())


def describe(entry: DatasetEntry, files: Mapping[str, Path]) -> dict[str, Any]:
    """Return what `dataset.json` states of a set, once all its files are what was fetched."""
    assert entry.hub is not None
    manifest = files[HUBBED].resolve()  # of a shared store, what the link points to
    damaged = damaged_files(manifest)
    if damaged:
        raise UserError(
            f"{damaged[0]}: missing, or not what was fetched ({len(damaged)} such files). Delete them and"
            f" {manifest}, then run `snakemake download`."
        )
    facts = read_json(manifest)
    where, stated = f"datasets.yaml: {entry.name}", entry.splits["test"]
    if facts["examples"] != stated:
        raise UserError(f"{where}.splits.test: {stated}, but the shards hold {facts['examples']} images.")
    classes = lines(manifest.parent / SET / CLASSES)
    if entry.class_count not in (None, len(classes)):
        raise UserError(f"{where}.n_classes: {entry.class_count}, but {CLASSES} names {len(classes)}.")
    return {
        "name": entry.name,
        "title": entry.title,
        "kind": entry.kind,
        "licence": entry.licence,
        "homepage": entry.homepage,
        "shape": None,
        "classes": classes,
        "templates": lines(manifest.parent / SET / TEMPLATES),
        "splits": {"test": {"n": stated, "of": stated}},
        "mean": None,
        "std": None,
        "pool": [],
        "reader": entry.reader,
        "commit": facts["commit"],
        "set": {"split": entry.hub.split, "files": {k: v["bytes"] for k, v in facts["files"].items()}},
    }
