"""Read every artefact and download of a plan and check it against its digest; print the damaged.

An artefact made from an input that has other content by now counts as damaged too. With --remove the damaged
are deleted, and the tables of the suites that use them, so that the next run makes both again. Exit
status 1 says that something damaged is still there.

Examples:
  .venv/bin/python scripts/check.py
  .venv/bin/python scripts/check.py --settings '{"scale": "small"}' --remove
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from winnow.data.crawl import damaged_shards
from winnow.data.download import is_right
from winnow.data.hub import damaged_files
from winnow.errors import run_main
from winnow.locks import share_with_group
from winnow.plan.catalogue import CRAWLED, HUBBED, FileEntry
from winnow.plan.garbage import drop_download, remove
from winnow.plan.plan import Plan, load_plan
from winnow.plan.settings import add_settings, read_settings
from winnow.store import MANIFEST, content_digest, damage, discard, read_json


def files(plan: Plan) -> Iterator[tuple[FileEntry, Path]]:
    """Yield the downloads of a plan that are there."""
    for dataset in plan.datasets:
        for file, path in zip(plan.catalogue[dataset].files, plan.download_places(dataset), strict=True):
            if path.is_file():
                yield file, path


def shards(plan: Plan) -> dict[Path, str]:
    """Return what has to go so that damaged shards are fetched anew, with the reason."""
    found = {}
    places = (place for dataset in plan.datasets for place in plan.target_places(dataset))
    readers = {CRAWLED: damaged_shards, HUBBED: damaged_files}
    for manifest in (place for place in places if place.name in readers and place.is_file()):
        wrong = readers[manifest.name](manifest)
        damaged = dict.fromkeys(wrong, "its shard is not the one that was verified")
        found |= damaged | ({manifest: "a shard of it is damaged"} if damaged else {})
    return found


def outdated(plan: Plan, sound: set[str]) -> dict[str, str]:
    """Return the artefacts of a plan that were made from other inputs than those that are there now."""
    content = cache(lambda reference: content_digest(plan.places[reference]))
    found = {}
    for reference in sound:
        if sound.issuperset(plan.graph.nodes[reference].spec.inputs().values()):
            present = read_json(plan.places[reference] / MANIFEST)["identity"]["inputs"]
            if present != plan.identity(reference, content)["inputs"]:
                found[reference] = f"{plan.places[reference]}: made from other inputs than the present"
    return found


def removed(plan: Plan, reference: str) -> bool:
    """Delete a damaged artefact; whether it is gone, or has been made anew since it was read."""
    place = plan.places[reference]
    made_of = plan.graph.nodes[reference].spec.inputs().values()

    def wrong() -> bool:
        inputs = {used for used in made_of if (plan.places[used] / MANIFEST).is_file()}
        return damage(place) is not None or reference in outdated(plan, {reference, *inputs})

    return discard(place, wrong) or not wrong()


def removed_download(file: FileEntry, path: Path) -> bool:
    """Do so with a download."""

    def wrong() -> bool:
        return not is_right(file, path)

    return drop_download(path, wrong) or not wrong()


def drop_tables(plan: Plan, suites: set[str]) -> None:
    """Delete a suite's first tables: only what a table needs is made again."""
    for suite in suites:
        for name in ("metrics.parquet", "registry/registry.json"):
            remove(plan.suite_folder(suite) / name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_settings(parser)
    parser.add_argument("--remove", action="store_true", help="delete what is damaged")
    arguments = parser.parse_args()
    plan = load_plan(read_settings(arguments).model_dump(), check_sources=False)
    if plan.config.shared_store is not None:
        share_with_group(plan.config.shared_store)
    there = {reference: place for reference, place in plan.places.items() if os.path.lexists(place)}
    downloads = list(files(plan))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(there, pool.map(damage, there.values()), strict=True))
        right = pool.map(lambda download: is_right(*download), downloads)
        wrong = [download for download, good in zip(downloads, right, strict=True) if not good]
    broken = shards(plan)
    damaged = {reference: reason for reference, reason in found.items() if reason is not None}
    damaged |= outdated(plan, there.keys() - damaged.keys())
    print(
        f"{len(there)} of {len(plan.places)} artefacts and {len(downloads)} downloads are there and were read"
    )
    for reason in [
        *damaged.values(),
        *(f"{path}: not the file that datasets.yaml describes" for _, path in wrong),
        *(f"{path}: {reason}" for path, reason in broken.items()),
    ]:
        print(f"damaged: {reason}")
    count = left = len(damaged) + len(wrong) + len(broken)
    if arguments.remove:
        left -= sum(removed(plan, reference) for reference in damaged)
        left -= sum(removed_download(file, path) for file, path in wrong) + sum(map(remove, broken))
        drop_tables(plan, {suite for reference in damaged for suite in plan.graph.users[reference]})
        print(f"{count - left} removed; run again to make them anew")
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    run_main(main)
