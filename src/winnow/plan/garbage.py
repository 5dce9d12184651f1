"""What lies in a store and in this clone's results that no plan needs. Links are never followed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from winnow.locks import unless_locked
from winnow.plan.catalogue import SHARDS
from winnow.plan.config import RESULTS
from winnow.plan.plan import STAGES, Plan
from winnow.plan.shared import needs, registered
from winnow.store import discard, lock_file, work_folder


@dataclass(frozen=True)
class Leftover:
    """A file or folder that no plan needs: bytes on disk, time of its last change (s since the epoch)."""

    kind: str
    path: Path
    bytes: int
    changed: float
    delete: Callable[[], bool]
    """Deletes it; False where a live process is at work on it."""


def leftovers(plans: list[Plan], scales: set[str], store: Path) -> Iterator[Leftover]:
    """Yield what no plan needs of some scales, and the downloads that no plan needs.

    plans: what is kept, at every scale: scales share downloads. Of a scale that none of them has, nothing is
    yielded. A shared store's registered plans are kept too.
    """
    wanted = frozenset[str]().union(*map(needs, plans))
    if store != RESULTS:
        wanted = wanted.union(*(plan.needs for plan in registered(store)))
    for scale in sorted(scales & {plan.config.scale for plan in plans}):
        own = {reference for plan in plans if plan.config.scale == scale for reference in plan.graph.nodes}
        for stage in STAGES:
            yield from _artefacts(store / scale / stage, wanted, store)
            yield from _unfinished(store / scale / stage, wanted, store)
            yield from _records(RESULTS / scale, stage, own)
            if store != RESULTS:
                yield from _links(RESULTS / scale / stage, own)
    for dataset in sorted(plans[0].catalogue):
        yield from _downloads(store / "data" / dataset, wanted, store)


def _artefacts(folder: Path, wanted: frozenset[str], store: Path) -> Iterator[Leftover]:
    for path in _inside(folder):
        if str(path.relative_to(store)) not in wanted:
            yield _leftover("artefact", path, partial(discard, path))


def _unfinished(folder: Path, wanted: frozenset[str], store: Path) -> Iterator[Leftover]:
    """Yield checkpoints of jobs that are done or that no plan has, and locks that no plan has."""
    work = work_folder(folder / "any").parent
    names = {path.name.removesuffix(".lock") for path in _inside(work)}
    for name in sorted(names):
        final = folder / name
        needed, built = str(final.relative_to(store)) in wanted, os.path.lexists(final)
        if work_folder(final).is_dir() and (built or not needed):
            yield _leftover("unfinished", work_folder(final), partial(_drop_work, final))
        elif not needed and not built:
            yield _leftover("lock", lock_file(final), partial(discard, final))


def _drop_work(final: Path) -> bool:
    """Delete what was left of building an artefact, and not the artefact."""
    with unless_locked(lock_file(final)) as free:
        if free:
            remove(work_folder(final))
    return free


def _records(folder: Path, stage: str, own: Iterable[str]) -> Iterator[Leftover]:
    """Yield this clone's logs and benchmarks of jobs that none of its plans has."""
    for kind, ending in (("log", ".log"), ("benchmark", ".tsv")):
        for path in _inside(folder / f"{kind}s" / stage):
            if path.suffix == ending and f"{stage}/{path.stem}" not in own:
                yield _leftover(kind, path, partial(remove, path))


def _links(folder: Path, own: Iterable[str]) -> Iterator[Leftover]:
    for path in _inside(folder):
        if path.is_symlink() and f"{folder.name}/{path.name}" not in own:
            yield _leftover("link", path, partial(remove, path))


def _downloads(folder: Path, wanted: frozenset[str], store: Path) -> Iterator[Leftover]:
    """Yield files and shards that no plan needs, and transfers that were put aside or have been finished."""
    manifests = {shards: folder / manifest for manifest, shards in SHARDS.items()}
    for path in _inside(folder):
        if path.name in manifests and path.is_dir():
            if str(manifests[path.name].relative_to(store)) not in wanted:
                yield _leftover("download", path, partial(_drop_shards, path, manifests[path.name]))
            continue
        whole = path.with_name(path.name.removesuffix(".part"))
        needed = str(whole.relative_to(store)) in wanted
        finished = whole != path and whole.exists()
        if path.name == "quarantine" or (path.is_file() and (finished or not needed)):
            yield _leftover("download", path, partial(drop_download, path))


def _drop_shards(folder: Path, manifest: Path) -> bool:
    """Delete what a manifest describes, and the manifest; False where a live process is at work on them."""
    lock = manifest.parent / ".work" / f"{manifest.name}.lock"
    lock.parent.mkdir(exist_ok=True)
    with unless_locked(lock) as free:
        return free and remove(manifest) and remove(folder)


def drop_download(path: Path, still: Callable[[], bool] = lambda: True) -> bool:
    """Delete a download or what is left of one; False where a live process is at work on it.

    still: whether it is to go, asked under its lock: by then another process may have fetched it anew.
    """
    lock = path.parent / ".work" / f"{path.name.removesuffix('.part')}.lock"
    lock.parent.mkdir(exist_ok=True)
    with unless_locked(lock) as free:
        return free and still() and remove(path)


def remove(path: Path) -> bool:
    """Delete a file, a link (not what it points to) or a folder; always True."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return True


def _inside(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted; nothing where it is not there or is itself a link."""
    if not folder.is_dir() or folder.is_symlink():
        return []
    return sorted(path for path in folder.iterdir() if path.name != ".work")


def _leftover(kind: str, path: Path, delete: Callable[[], bool]) -> Leftover:
    try:
        changed = path.lstat().st_mtime
    except FileNotFoundError:
        changed = time.time()
    return Leftover(kind, path, size(path), changed, delete)


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; a link counts for itself.

    What another process deletes meanwhile counts for nothing.
    """
    try:
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_size
        with os.scandir(path) as entries:
            return sum(size(Path(entry.path)) for entry in entries)
    except FileNotFoundError:
        return 0
