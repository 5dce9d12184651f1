"""Artefacts: folders that appear complete under their final name, or not at all.

An artefact is built in `<root>/.work/<stage>/<id>/out` and renamed into `<root>/<stage>/<id>` once
its `spec.json`, `provenance.json` and `manifest.json` (sha256 and size of every file) are written.
A lock per id keeps two processes from building the same artefact; checkpoints live beside `out`,
outlive a kill, and are refused by any other spec, code or input.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from winnow.canonical import canonical_json, sha256_file, sha256_text
from winnow.errors import UserError, disk_error

MANIFEST = "manifest.json"


@dataclass
class Cost:
    """Wall and CPU seconds of one repetition."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


@dataclass
class Artefact:
    """An artefact under construction: write files into `out`, keep checkpoints in `checkpoints`."""

    out: Path
    checkpoints: Path
    costs: dict[str, Cost] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def folder(self, seed: int) -> Path:
        """Return (and create) the folder of one repetition."""
        path = self.out / f"s{seed}"
        path.mkdir(exist_ok=True)
        return path

    @contextlib.contextmanager
    def timed(self, seed: int | str) -> Iterator[Cost]:
        """Add the wall and CPU time of the block to the cost of one repetition."""
        with clocked(self.costs.setdefault(str(seed), Cost())) as cost:
            yield cost


@contextlib.contextmanager
def clocked(cost: Cost) -> Iterator[Cost]:
    """Add the wall and CPU time of the block to a cost."""
    wall, cpu = time.perf_counter(), _cpu_seconds()
    try:
        yield cost
    finally:
        cost.wall_s += time.perf_counter() - wall
        cost.cpu_s += _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@contextlib.contextmanager
def building(final: Path, identity: dict[str, str]) -> Iterator[Artefact | None]:
    """Build the artefact `final`; yields None when a concurrent process has just built the same one.

    identity: what the artefact is a function of (spec, code and the content of its inputs). The caller writes
    `provenance.json` last; leaving the block without an error writes the manifest and renames.
    """
    work = final.parent.parent / ".work" / final.parent.name / final.name
    with _clear_disk_errors(final):
        work.mkdir(parents=True, exist_ok=True)
        final.parent.mkdir(parents=True, exist_ok=True)
        with _locked(work.with_name(f"{work.name}.lock")):
            if _is_same(final, identity):
                yield None
                return
            work.mkdir(parents=True, exist_ok=True)
            checkpoints = _checkpoints(work, identity)
            with _empty_folder(work / "out") as out:
                yield Artefact(out, checkpoints)
                _seal(out, identity)
                _replace(final, out, work / "replaced")
            shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _empty_folder(path: Path) -> Iterator[Path]:
    """Make an empty folder; what an error leaves in it goes, so that a full disk has room for the message."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    try:
        yield path
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _replace(final: Path, new: Path, aside: Path) -> None:
    """Put a folder under its final name in renames alone: deleting the old one there could be cut short."""
    shutil.rmtree(aside, ignore_errors=True)
    if final.exists():
        os.replace(final, aside)
    os.replace(new, final)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                f"{path}: another process builds this artefact; waiting for it", file=sys.stderr, flush=True
            )
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _clear_disk_errors(final: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(error, final) or error from error


def _is_same(final: Path, identity: dict[str, str]) -> bool:
    """Whether `final` is an undamaged artefact of exactly this spec and code."""
    try:
        manifest = json.loads((final / MANIFEST).read_text())
        return bool(manifest["identity"] == identity) and all(verified(final, f) for f in manifest["files"])
    except (OSError, ValueError, KeyError, UserError):
        return False


def _checkpoints(work: Path, identity: dict[str, str]) -> Path:
    """Return the checkpoint folder, emptied unless it belongs to exactly this spec, code and input."""
    folder, stamp = work / "checkpoints", sha256_text(canonical_json(identity))
    owner = folder / "owner"
    if not owner.is_file() or owner.read_text() != stamp:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write_atomic(owner, stamp.encode())
    return folder


def _seal(out: Path, identity: dict[str, str]) -> None:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    listing = {str(p.relative_to(out)): {"bytes": p.stat().st_size, "sha256": sha256_file(p)} for p in files}
    write_json(out / MANIFEST, {"identity": identity, "files": listing})


def content_digest(folder: Path) -> str:
    """Return a digest of an artefact's data: all its files but `provenance.json`, which differs by run."""
    listing = read_json(folder / MANIFEST)["files"]
    return sha256_text(canonical_json({n: f["sha256"] for n, f in listing.items() if n != "provenance.json"}))


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file through a temporary name in the same folder, flushed to disk before the rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people (indented, sorted keys), atomically."""
    write_atomic(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON; a missing or damaged file is a clear error."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there. Run the stage that makes it again.") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged, not JSON ({error}). Delete its folder and run again.") from error


def verified(folder: Path, name: str) -> Path:
    """Return the path of one file of an artefact after checking its size and sha256.

    Raises UserError when the file is missing or differs from the manifest.
    """
    listing = read_json(folder / MANIFEST)["files"]
    path = folder / name
    if name not in listing:
        raise UserError(f"{path}: not listed in {MANIFEST}. Delete {folder} and run again.")
    if not path.is_file():
        raise UserError(f"{path}: missing, though {MANIFEST} lists it. Delete {folder} and run again.")
    if path.stat().st_size != listing[name]["bytes"] or sha256_file(path) != listing[name]["sha256"]:
        raise UserError(
            f"{path}: damaged, its sha256 differs from the one in {MANIFEST}. Delete {folder} and run again."
        )
    return path


def save_array(path: Path, values: np.ndarray) -> None:
    """Write an array as .npy, atomically, never pickled."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    write_atomic(path, buffer.getvalue())


def load_array(folder: Path, name: str) -> np.ndarray:
    """Return one array of an artefact, verified and memory-mapped."""
    path = verified(folder, name)
    try:
        values: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise UserError(f"{path}: damaged, not an array ({error}). Delete {folder} and run again.") from error
    return values
