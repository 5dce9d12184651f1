"""Export a suite's subsets and scores: one Parquet table each, and registry.json that describes them.

Rows carry example identifiers (such as cifar10/train/00017) that hold outside this run; each table
has its sha256, method, variant, seed and spec in the registry.

Example:
  .venv/bin/python scripts/export.py --suite sas --output results/demo/suites/sas/registry
"""

from __future__ import annotations

import argparse
from pathlib import Path

from winnow.errors import run_main
from winnow.evidence.export import export_suite
from winnow.plan.settings import add_settings, read_plan


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_settings(parser)
    parser.add_argument("--suite", required=True, help="name of a suite of the plan")
    parser.add_argument("--output", required=True, type=Path, help="folder to write into")
    arguments = parser.parse_args()
    plan = read_plan(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    export_suite(plan, arguments.suite, arguments.output)


if __name__ == "__main__":
    run_main(main)
