"""Artefacts: folders that appear complete under their final name, or not at all.

An artefact is built in `<root>/.work/<stage>/<id>/out` and renamed into `<root>/<stage>/<id>` once
its `spec.json`, `provenance.json` and `manifest.json` (sha256 and size of every file) are written.
A lock per id keeps two processes from building the same artefact; checkpoints live beside `out`,
outlive a kill, and are refused by any other spec, code or input.

In a store that several clones share, the name says all that the content depends on (`stored_name`), and
each clone has links to it: what Snakemake deletes is then a link.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from winnow.canonical import canonical_json, sha256_file, sha256_text
from winnow.errors import UserError, disk_error
from winnow.locks import locked, unless_locked

MANIFEST = "manifest.json"
STORED_NAME = "-[0-9a-f]{16}"
"""What follows an artefact's id in a shared store."""


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
    work = work_folder(final)
    with _clear_disk_errors(final):
        work.parent.mkdir(parents=True, exist_ok=True)
        final.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock_file(final)):
            if _is_same(final, identity):
                yield None
                return
            work.mkdir(exist_ok=True)
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


def work_folder(final: Path) -> Path:
    """Return the folder in which an artefact is built, with its checkpoints."""
    return final.parent.parent / ".work" / final.parent.name / final.name


def lock_file(final: Path) -> Path:
    """Return the file whose lock an artefact's builder holds."""
    work = work_folder(final)
    return work.with_name(f"{work.name}.lock")


def stored_name(name: str, spec: str, code: str, inputs: Mapping[str, str]) -> str:
    """Return the name of an artefact in a shared store: its id, and a digest of all that it depends on.

    spec: canonical JSON. code: digest of the stage's code. inputs: names in the store of the artefacts
    that it is made from, so that their code counts too.
    """
    return f"{name}-{sha256_text(canonical_json([spec, code, dict(inputs)]))[:16]}"


def point(link: Path, target: Path) -> None:
    """Make a symbolic link, or let an existing one point elsewhere, in one step."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, link)


def discard(final: Path, still: Callable[[], bool] = lambda: True) -> bool:
    """Delete an artefact with what was left of building it; False where a live process builds it.

    still: whether it is to go, asked under its lock: by then another process may have made it anew.
    It leaves its final name in one rename, so that a kill leaves no half of it there.
    """
    work, lock = work_folder(final), lock_file(final)
    work.parent.mkdir(parents=True, exist_ok=True)
    with unless_locked(lock) as free:
        if not free or not still():
            return False
        work.mkdir(exist_ok=True)
        aside = work / "discarded"
        shutil.rmtree(aside, ignore_errors=True)
        if final.is_dir() and not final.is_symlink():
            os.replace(final, aside)
        else:
            final.unlink(missing_ok=True)
        shutil.rmtree(work)
        lock.unlink()
    return True


def damage(folder: Path) -> str | None:
    """Return what is wrong with an artefact's files, or None: every listed file is read and digested."""
    try:
        for name in read_json(folder / MANIFEST)["files"]:
            verified(folder, name)
    except (OSError, KeyError, TypeError) as error:
        return f"{folder / MANIFEST}: damaged ({error})"
    except UserError as error:
        return str(error)
    return None


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
        raise UserError(f"{path}: not listed in {MANIFEST}. {again(folder)}")
    if not path.is_file():
        raise UserError(f"{path}: missing, though {MANIFEST} lists it. {again(folder)}")
    if path.stat().st_size != listing[name]["bytes"] or sha256_file(path) != listing[name]["sha256"]:
        raise UserError(f"{path}: damaged, its sha256 differs from the one in {MANIFEST}. {again(folder)}")
    return path


def again(folder: Path) -> str:
    """Return how a damaged artefact is made again; of a link, what it points to has to go."""
    real = folder.resolve() if folder.is_symlink() else folder
    return f"Delete {real} and run again (`make check ARGS=--remove` deletes all that is damaged)."


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
        raise UserError(f"{path}: damaged, not an array ({error}). {again(folder)}") from error
    return values
