"""A store that several clones share: this clone's links to it, and what its plans need of it.

Snakemake works on `results/` of the clone, where an artefact of a shared store is a symbolic link. Which link
is right follows from the plan alone (`Plan.places`), so that neither another clone's code nor the times
of files and the records of Snakemake, which each clone has for itself, decide what is reused.
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from winnow.canonical import canonical_json, sha256_text
from winnow.errors import UserError, disk_error
from winnow.locks import locked, require_locks, shared_with_group
from winnow.plan.code import ROOT
from winnow.plan.config import RESULTS
from winnow.plan.plan import STAGES, Plan
from winnow.plan.runlock import hold, looks_only
from winnow.store import STORED_NAME, point, read_json, write_json

PLANS = "plans"
"""Folder of a shared store with one file per plan that some clone has run."""


@dataclass(frozen=True)
class Registered:
    """A plan that some clone has run on this store."""

    file: Path
    clone: str
    settings: str
    needs: frozenset[str]


def join_store(plan: Plan, running: TextIO | None, words: list[str] = sys.argv) -> None:
    """Bring this clone's links up to date and, for a run, tell the store what it needs.

    running: the lock of a run of this clone. Who only looks has none, and leaves links alone while a run is
    alive; a second run beside it is refused. The parts of a distributed run (`--mode`) change nothing.
    """
    if "--mode" in words:
        return
    handle = running or hold(Path(".snakemake"))
    if handle is None:
        if plan.config.shared_store is not None and not looks_only(words):
            raise UserError(
                "another run of this clone is alive, and a shared store has to know what each needs. Wait for"
                " it, or run this from another clone."
            )
        return
    try:
        if plan.config.shared_store is None:
            _drop_links(plan)
        else:
            _link(plan, plan.config.shared_store, for_run=running is not None)
    except OSError as error:
        raise disk_error(error, plan.config.store) or error from error
    finally:
        if running is None:
            handle.close()


def store_lock(store: Path) -> Path:
    """Return the file that plans lock together and `gc` alone: no plan begins while it deletes."""
    return store / ".lock"


def needs(plan: Plan) -> frozenset[str]:
    """Return the paths below the store that a plan needs, done or not."""
    artefacts = (f"{plan.config.scale}/{ref.split('/')[0]}/{p.name}" for ref, p in plan.places.items())
    downloads = (target for dataset in plan.datasets for target in plan.targets(dataset))
    return frozenset(artefacts).union(str(Path(target).relative_to(RESULTS)) for target in downloads)


def registered(store: Path) -> list[Registered]:
    """Return the plans that clones have run on a store, the oldest first."""
    files = sorted((store / PLANS).glob("*.json"), key=lambda file: file.stat().st_mtime)
    return [_read(file) for file in files]


def _read(file: Path) -> Registered:
    facts = read_json(file)
    try:
        return Registered(file, facts["clone"], json.dumps(facts["settings"]), frozenset(facts["needs"]))
    except (KeyError, TypeError) as error:
        raise UserError(f"{file}: not a plan's needs ({error!r}). Delete it if no clone uses it.") from error


def _register(plan: Plan, store: Path) -> None:
    """Write down what this clone needs; its earlier note for the same settings goes.

    Clones on two hosts may have one path; the numbers of their folders differ.
    """
    settings = plan.config.model_dump(mode="json", include={"scale", "suites", "seeds", "root_seed"})
    name = sha256_text(canonical_json([str(ROOT), os.stat(".").st_ino, settings]))[:16]
    (store / PLANS).mkdir(exist_ok=True)
    facts = {"clone": str(ROOT), "settings": settings, "needs": sorted(needs(plan))}
    write_json(store / PLANS / f"{name}.json", facts)


def _link(plan: Plan, store: Path, for_run: bool) -> None:
    if for_run:
        store.mkdir(parents=True, exist_ok=True)
        require_locks(store)
        with shared_with_group(store), locked(store_lock(store), shared=True):
            _register(plan, store)
            _set_links(plan)
    elif store.is_dir():
        _set_links(plan)


def _set_links(plan: Plan) -> None:
    """Let each link of the plan point to its artefact or file in the store; without one, it goes.

    A download that this clone has itself is as good: its checksum says that it is the right one.
    """
    there: dict[Path, set[str]] = {}
    for reference, place in plan.places.items():
        if place.parent not in there:
            there[place.parent] = set(os.listdir(place.parent)) if place.parent.is_dir() else set()
        _set_link(Path(plan.path(reference)), place, place.name in there[place.parent])
    for dataset in plan.datasets:
        for name, place in zip(plan.targets(dataset), plan.target_places(dataset), strict=True):
            if not Path(name).is_file():
                _set_link(Path(name), place, place.is_file())


def _set_link(link: Path, place: Path, exists: bool) -> None:
    try:
        present = os.readlink(link)
    except FileNotFoundError:
        present = None
    except OSError as error:
        raise UserError(
            f"{link}: was made in this clone, but config.yaml names a shared `store`. Move {RESULTS} away,"
            " or leave `store` as it was."
        ) from error
    if exists and present != str(place):
        link.parent.mkdir(parents=True, exist_ok=True)
        point(link, place)
    elif present is not None and not exists:
        link.unlink()


def _drop_links(plan: Plan) -> None:
    """Delete links that a shared store has left: without it they would be taken for this clone's own work."""
    for folder in (plan.config.scale_folder / stage for stage in STAGES):
        if folder.is_dir():
            with os.scandir(folder) as entries:
                links = [Path(entry.path) for entry in entries if entry.is_symlink()]
            for link in links:
                if re.fullmatch(re.escape(link.name) + STORED_NAME, os.path.basename(os.readlink(link))):
                    link.unlink()
