"""Fetch one file of a dataset and check it: the mirror first, then the public addresses.

A transfer that breaks off resumes where it stopped. A file whose checksum is wrong is put aside
under `quarantine/` and nothing gets its final name.

Example:
  .venv/bin/python scripts/download.py --dataset fashion_mnist --file train-labels-idx1-ubyte.gz \\
      --output results/data/fashion_mnist/train-labels-idx1-ubyte.gz
"""

from __future__ import annotations

import argparse
from pathlib import Path

from winnow.data.download import fetch
from winnow.data.fetching import dataset_named, lock_of, placed
from winnow.errors import run_main, unknown
from winnow.locks import locked
from winnow.plan.settings import add_settings, read_settings


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_settings(parser)
    parser.add_argument("--dataset", required=True, help="a name in datasets.yaml")
    parser.add_argument("--file", required=True, help="the name of one of its files")
    parser.add_argument("--output", required=True, type=Path, help="where to put it")
    arguments = parser.parse_args()
    files = {file.name: file for file in dataset_named(arguments.dataset).files}
    if arguments.file not in files:
        raise unknown("file", arguments.file, files, "--file")
    config = read_settings(arguments)
    with placed(arguments.output, arguments.dataset, config) as place, locked(lock_of(place)):
        report = fetch(arguments.dataset, files[arguments.file], place, config.mirror_folder)
    print(f"{place}: {report.bytes:,} bytes in {report.seconds:.1f} s from {report.source}")


if __name__ == "__main__":
    run_main(main)
