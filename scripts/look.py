"""Draw what a suite's methods keep, drop and nearly keep: contact sheets, maps of embeddings, confusions.

Writes PNG files and index.html, which shows them, into the output folder; the first repetition is drawn.

Example:
  .venv/bin/python scripts/look.py --suite clipcov --output results/demo/suites/clipcov/look
"""

from __future__ import annotations

import argparse
from pathlib import Path

from winnow.errors import run_main
from winnow.look.build import look_at
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
    look_at(plan, arguments.suite, arguments.output)


if __name__ == "__main__":
    run_main(main)
