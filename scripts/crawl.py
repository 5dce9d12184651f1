"""Download the pairs of a dataset's published list into shards, check every one, and count what failed.

The download itself is img2dataset's, from an environment of its own (`make crawl-env`). A crawl that is
killed continues at the shards that are not finished. This needs the network: run it on a login node, as
`snakemake download` does.

Example:
  .venv/bin/python scripts/crawl.py --dataset cc3m --output results/data/cc3m/crawl.json --processes 8
"""

from __future__ import annotations

import argparse
from pathlib import Path

from winnow.data.crawl import find_list, run_crawl, tool_python
from winnow.data.fetching import dataset_named, placed
from winnow.errors import UserError, run_main
from winnow.plan.code import ROOT
from winnow.plan.settings import add_settings, read_settings
from winnow.stage import log


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_settings(parser)
    parser.add_argument("--dataset", required=True, help="a name in datasets.yaml, with `crawl`")
    parser.add_argument("--output", required=True, type=Path, help="the manifest; shards go beside it")
    parser.add_argument("--processes", type=int, default=1, help="download processes (default: 1)")
    parser.add_argument("--threads", type=int, default=64, help="threads of each (default: 64)")
    arguments = parser.parse_args()
    entry, config = dataset_named(arguments.dataset), read_settings(arguments)
    if entry.crawl is None:
        raise UserError(f"datasets.yaml: {entry.name}: has no `crawl`; use scripts/download.py.")
    with placed(arguments.output, entry.name, config) as place:
        listed = find_list(entry, arguments.output.parent, config.mirror_folder)
        found = run_crawl(
            entry, listed, place.parent, tool_python(ROOT), arguments.processes, arguments.threads, log=log
        )
    print(f"{place}: {found['usable']:,} of {found['listed']:,} pairs; failures: {found['failures']}")


if __name__ == "__main__":
    run_main(main)
