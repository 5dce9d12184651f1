"""What the scripts share that bring data: which dataset, and where its files go."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from winnow.errors import unknown
from winnow.locks import share_with_group
from winnow.plan.catalogue import DatasetEntry, load_catalogue
from winnow.plan.code import ROOT
from winnow.plan.config import Config
from winnow.store import point


def dataset_named(name: str) -> DatasetEntry:
    """Return a dataset of the catalogue; `--dataset` with another name is a user's mistake."""
    catalogue = load_catalogue(ROOT / "datasets.yaml")
    if name not in catalogue:
        raise unknown("dataset", name, catalogue, "--dataset")
    return catalogue[name]


@contextlib.contextmanager
def placed(output: Path, dataset: str, config: Config) -> Iterator[Path]:
    """Yield where a file goes, which `output` links to afterwards in a run with a shared store."""
    place = output
    if "WINNOW_SETTINGS" in os.environ and config.shared_store is not None:
        share_with_group(config.shared_store)
        place = config.shared_store / "data" / dataset / output.name
    yield place
    if place != output:
        point(output, place)


def lock_of(place: Path) -> Path:
    """Return the lock under which a file is fetched."""
    lock = place.parent / ".work" / f"{place.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    return lock
