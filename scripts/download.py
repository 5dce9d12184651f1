"""Fetch one file of a dataset and check it: the mirror first, then the public addresses.

A transfer that breaks off resumes where it stopped. A file whose checksum is wrong is put aside
under `quarantine/` and nothing gets its final name.

Example:
  .venv/bin/python scripts/download.py --dataset fashion_mnist --file train-labels-idx1-ubyte.gz \\
      --output results/data/fashion_mnist/train-labels-idx1-ubyte.gz
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from winnow.data.download import fetch
from winnow.errors import run_main, unknown
from winnow.locks import locked, share_with_group
from winnow.plan.catalogue import load_catalogue
from winnow.plan.code import ROOT
from winnow.plan.settings import add_settings, read_settings
from winnow.store import point


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_settings(parser)
    parser.add_argument("--dataset", required=True, help="a name in datasets.yaml")
    parser.add_argument("--file", required=True, help="the name of one of its files")
    parser.add_argument("--output", required=True, type=Path, help="where to put it")
    arguments = parser.parse_args()
    catalogue = load_catalogue(ROOT / "datasets.yaml")
    if arguments.dataset not in catalogue:
        raise unknown("dataset", arguments.dataset, catalogue, "--dataset")
    files = {file.name: file for file in catalogue[arguments.dataset].files}
    if arguments.file not in files:
        raise unknown("file", arguments.file, files, "--file")
    config, place = read_settings(arguments), arguments.output
    if "WINNOW_SETTINGS" in os.environ and config.shared_store is not None:
        share_with_group(config.shared_store)
        place = config.shared_store / "data" / arguments.dataset / arguments.file
    lock = place.parent / ".work" / f"{place.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock):
        report = fetch(arguments.dataset, files[arguments.file], place, config.mirror_folder)
    if place != arguments.output:
        point(arguments.output, place)
    print(f"{place}: {report.bytes:,} bytes in {report.seconds:.1f} s from {report.source}")


if __name__ == "__main__":
    run_main(main)
