"""Write a suite's measured results into the documentation: a Markdown page and its figures.

Writes into DIRECTORY: sas-small.md for suite `sas` at scale `small`, and sas-small/*.png.

Example:
  .venv/bin/python scripts/publish.py --suite sas --settings '{"scale": "small"}' --output docs/results
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from winnow.errors import run_main
from winnow.plan.settings import add_settings, read_plan
from winnow.report.markdown import results_page
from winnow.report.read import read_suite
from winnow.store import write_atomic


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_settings(parser)
    parser.add_argument("--suite", required=True, help="name of a suite of the plan")
    parser.add_argument("--output", required=True, type=Path, help="directory to write into")
    arguments = parser.parse_args()
    plan = read_plan(arguments)
    scale, name = plan.config.scale, f"{arguments.suite}-{plan.config.scale}"
    (arguments.output / name).mkdir(parents=True, exist_ok=True)
    figures = [Path(figure) for figure in plan.figures(arguments.suite)]
    for figure in figures:
        shutil.copyfile(figure, arguments.output / name / figure.name)
    suite = read_suite(plan, arguments.suite, arguments.output / f"{name}.md")
    command = f"snakemake {arguments.suite} --config scale={scale}"
    page = results_page(suite, scale, command, [f"{name}/{figure.name}" for figure in figures])
    write_atomic(arguments.output / f"{name}.md", page.encode())


if __name__ == "__main__":
    run_main(main)
