"""Test sets as clip-benchmark publishes them: fetched whole from their hub or the mirror, and checked.

A set is a folder with `classnames.txt`, `zeroshot_classification_templates.txt`, and per split `nshards.txt`
and the shards `0.tar`, `1.tar`, ...: an image and its class, `cls`, per sample.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from winnow.canonical import sha256_file
from winnow.errors import UserError
from winnow.plan.catalogue import HUBBED, SHARDS, DatasetEntry, Hub
from winnow.store import read_json, write_json

SET = SHARDS[HUBBED]
CLASSES, TEMPLATES, COUNT = "classnames.txt", "zeroshot_classification_templates.txt", "nshards.txt"
IMAGES, LABEL = frozenset({"jpg", "jpeg", "png", "webp"}), "cls"
"""Endings of a sample's members. Others are refused: webdataset would unpickle some of them."""


def fetch_set(entry: DatasetEntry, folder: Path, mirror: Path | None, endpoint: str | None = None) -> Path:
    """Bring a test set into `<folder>/set` and return its manifest beside it, which is written last.

    `<mirror>/<name>/`, laid out as the hub has it, is copied if it is there. endpoint: of the hub (default:
    Hugging Face's). A fetch that was killed continues. Raises `UserError` if it cannot be had or is not such
    a set.
    """
    assert entry.hub is not None
    manifest, folder = folder / HUBBED, folder / SET
    folder.mkdir(parents=True, exist_ok=True)
    mirrored = mirror / entry.name if mirror else None
    if mirrored is not None and (mirrored / CLASSES).is_file():
        commit = _copied(mirrored, folder, entry.hub)
    else:
        commit = _downloaded(entry, folder, endpoint, mirrored)
    try:
        files = {str(path.relative_to(folder)): path for path in set_files(folder, entry.hub)}
        examples = sum(_checked(path) for path in files.values() if path.suffix == ".tar")
    except (OSError, ValueError, tarfile.TarError) as error:
        raise UserError(f"{folder}: not a test set of clip-benchmark ({error}). Fetch it again.") from error
    described = {
        name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for name, path in tqdm(files.items(), desc=f"{entry.name}: reading")
    }
    facts = {"repository": entry.hub.repository, "commit": commit, "examples": examples, "files": described}
    write_json(manifest, facts)
    return manifest


def set_files(folder: Path, hub: Hub) -> Iterator[Path]:
    """Yield the files of a set: names and prompts, the number of shards, and as many shards."""
    yield from (folder / CLASSES, folder / TEMPLATES)
    counted = folder / hub.split / COUNT
    yield counted
    yield from (folder / hub.split / f"{number}.tar" for number in range(int(counted.read_text())))


def damaged_files(manifest: Path) -> list[Path]:
    """Return the files of a fetched set that are missing or not what its manifest states."""
    files: dict[str, dict[str, Any]] = read_json(manifest)["files"]
    folder = manifest.resolve().parent / SET
    stated = {folder / name: about["sha256"] for name, about in files.items()}
    return [path for path, digest in stated.items() if not path.is_file() or sha256_file(path) != digest]


def lines(path: Path) -> list[str]:
    """Return the lines of a file of names or prompts."""
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]


def _copied(mirrored: Path, folder: Path, hub: Hub) -> str:
    try:
        for path in tqdm(list(set_files(mirrored, hub)), desc=f"{mirrored.name}: copying"):
            place = folder / path.relative_to(mirrored)
            if not place.is_file() or place.stat().st_size != path.stat().st_size:
                place.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, place.with_name(f"{place.name}.part"))
                os.replace(place.with_name(f"{place.name}.part"), place)
    except (OSError, ValueError) as error:
        raise UserError(f"{mirrored}: cannot be copied ({error}).") from error
    return "mirror"


def _downloaded(entry: DatasetEntry, folder: Path, endpoint: str | None, mirrored: Path | None) -> str:
    """Fetch the files of the revision's commit, which is returned."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError  # type: ignore[attr-defined]

    hub = entry.hub
    assert hub is not None
    wanted = [CLASSES, TEMPLATES, f"{hub.split}/{COUNT}", f"{hub.split}/*.tar"]
    try:
        commit = HfApi(endpoint).dataset_info(hub.repository, revision=hub.revision).sha
        snapshot_download(
            hub.repository,
            repo_type="dataset",
            revision=commit,
            allow_patterns=wanted,
            local_dir=folder,
            endpoint=endpoint,
        )
    except (HTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        held = mirrored or Path("<mirror>") / entry.name
        raise UserError(
            f"{entry.name}: {hub.repository} could not be fetched ({reason}). Run again where there is a"
            f" network, or put the set at {held} with `mirror` set in config.yaml (or WINNOW_MIRROR)."
        ) from error
    return str(commit)


def _checked(shard: Path) -> int:
    """Return how many samples a shard has; each is an image and its class."""
    samples: dict[str, set[str]] = {}
    with tarfile.open(shard) as tar:
        for member in tar:
            key, _, ending = member.name.partition(".")
            if not member.isfile() or ending not in IMAGES | {LABEL}:
                raise ValueError(f"{shard.name} holds '{member.name}'; accepted: images and their .cls")
            samples.setdefault(key, set()).add(LABEL if ending == LABEL else "image")
    for key, parts in samples.items():
        if parts != {LABEL, "image"}:
            raise ValueError(f"sample '{key}' of {shard.name} has {' and '.join(sorted(parts))} alone")
    return len(samples)
