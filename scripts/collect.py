"""Join the cells of one suite into its long table of metrics.

One row per (cell, repetition, metric) with the costs of selection, training and evaluation.
A missing cell is an error: nothing is dropped silently.

Example:
  .venv/bin/python scripts/collect.py --suite sas --output results/demo/suites/sas/metrics.parquet
"""

from __future__ import annotations

import argparse
from pathlib import Path

from winnow.errors import run_main
from winnow.evidence.collect import collect_suite
from winnow.plan.settings import add_settings, read_plan
from winnow.tables import write_table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_settings(parser)
    parser.add_argument("--suite", required=True, help="name of a suite of the plan")
    parser.add_argument("--output", required=True, type=Path, help="Parquet file to write")
    arguments = parser.parse_args()
    plan = read_plan(arguments)
    write_table(arguments.output, collect_suite(plan, arguments.suite))


if __name__ == "__main__":
    run_main(main)
