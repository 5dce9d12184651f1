"""Fetch a test set that clip-benchmark publishes, check it, and write its manifest.

The mirror first (`<mirror>/<dataset>/`, laid out as the hub has it), then Hugging Face. A fetch that is
killed continues. This needs the network: run it on a login node, as `snakemake download` does.

Example:
  .venv/bin/python scripts/hub.py --dataset wds_imagenetv2 --output results/data/wds_imagenetv2/hub.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from winnow.data.fetching import dataset_named, lock_of, placed
from winnow.data.hub import fetch_set
from winnow.errors import UserError, run_main
from winnow.locks import locked
from winnow.plan.settings import add_settings, read_settings
from winnow.store import read_json


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_settings(parser)
    parser.add_argument("--dataset", required=True, help="a name in datasets.yaml, with `hub`")
    parser.add_argument("--output", required=True, type=Path, help="the manifest; the set goes beside it")
    arguments = parser.parse_args()
    entry, config = dataset_named(arguments.dataset), read_settings(arguments)
    if entry.hub is None:
        raise UserError(f"datasets.yaml: {entry.name}: has no `hub`; use scripts/download.py.")
    with placed(arguments.output, entry.name, config) as place, locked(lock_of(place)):
        found = read_json(fetch_set(entry, place.parent, config.mirror_folder))
    print(f"{place}: {found['examples']:,} images in {len(found['files'])} files of {found['repository']}")


if __name__ == "__main__":
    run_main(main)
