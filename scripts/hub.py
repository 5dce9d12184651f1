"""Fetch a test set that clip-benchmark publishes, check it, and write its manifest.

The mirror first (`<mirror>/<dataset>/`, laid out as the hub has it), then Hugging Face. A fetch that is
killed continues. This needs the network: run it on a login node, as `snakemake download` does.

Example:
  .venv/bin/python scripts/hub.py --dataset wds_imagenetv2 --output results/data/wds_imagenetv2/hub.json
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from winnow.data.hub import fetch_set
from winnow.errors import UserError, run_main, unknown
from winnow.locks import locked, share_with_group
from winnow.plan.catalogue import load_catalogue
from winnow.plan.code import ROOT
from winnow.plan.settings import add_settings, read_settings
from winnow.store import point, read_json


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_settings(parser)
    parser.add_argument("--dataset", required=True, help="a name in datasets.yaml, with `hub`")
    parser.add_argument("--output", required=True, type=Path, help="the manifest; the set goes beside it")
    arguments = parser.parse_args()
    catalogue = load_catalogue(ROOT / "datasets.yaml")
    if arguments.dataset not in catalogue:
        raise unknown("dataset", arguments.dataset, catalogue, "--dataset")
    entry = catalogue[arguments.dataset]
    if entry.hub is None:
        raise UserError(f"datasets.yaml: {entry.name}: has no `hub`; use scripts/download.py.")
    config, place = read_settings(arguments), arguments.output
    if "WINNOW_SETTINGS" in os.environ and config.shared_store is not None:
        share_with_group(config.shared_store)
        place = config.shared_store / "data" / entry.name / place.name
    lock = place.parent / ".work" / f"{place.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock):
        found = read_json(fetch_set(entry, place.parent, config.mirror_folder))
    if place != arguments.output:
        point(arguments.output, place)
    print(f"{place}: {found['examples']:,} images in {len(found['files'])} files of {found['repository']}")


if __name__ == "__main__":
    run_main(main)
