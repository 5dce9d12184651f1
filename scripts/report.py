"""Write the HTML report: one self-contained file, for all suites of a plan or for one.

Example:
  .venv/bin/python scripts/report.py --output results/demo/report/index.html
"""

from __future__ import annotations

import argparse
from pathlib import Path

from winnow.errors import run_main
from winnow.plan.settings import add_settings, read_plan
from winnow.report.build import build_report
from winnow.report.read import read_report
from winnow.store import write_atomic


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_settings(parser)
    parser.add_argument("--suite", help="only this suite (default: all of the plan)")
    parser.add_argument("--output", required=True, type=Path, help="HTML file to write")
    arguments = parser.parse_args()
    plan = read_plan(arguments)
    suites = list(plan.suites) if arguments.suite is None else [arguments.suite]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(arguments.output, build_report(read_report(plan, suites, arguments.output)).encode())


if __name__ == "__main__":
    run_main(main)
