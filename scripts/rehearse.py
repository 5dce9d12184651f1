"""Rehearse a scale: what it will cost, before a cluster is booked, and what will not fit.

Every distinct stage runs a few steps on stand-in tensors of the real shapes where this machine can; where it
cannot, its operations are counted. Prints a table per suite and writes rehearsal.json and rehearsal.csv;
docs/rehearsal.md says how to read them.

Examples:
  .venv/bin/python scripts/rehearse.py --scale small
  .venv/bin/python scripts/rehearse.py --scale paper --card h100 --gpus 8
  .venv/bin/python scripts/rehearse.py --settings '{"scale": "paper", "suites": ["sas"]}' --card a100-80
  .venv/bin/python scripts/rehearse.py --scale demo --check      # against this store's finished jobs
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from winnow.errors import run_main
from winnow.plan.plan import load_plan
from winnow.plan.settings import add_settings, read_settings
from winnow.rehearse.cards import card_names


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_settings(parser)
    parser.add_argument("--scale", choices=("demo", "small", "paper"), help="instead of the settings' scale")
    parser.add_argument(
        "--card",
        choices=[*card_names(), "here"],
        help="GPU to forecast for, or `here`: this machine (default: a100-40 at scale paper, else here)",
    )
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that work at once (default: 1)")
    parser.add_argument(
        "--cores", type=int, default=os.cpu_count() or 1, help="jobs at once (default: this machine's cores)"
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="about how long to measure one case for (default: 2)"
    )
    parser.add_argument("--output", type=Path, help="folder to write to (default: <store>/<scale>/rehearsal)")
    parser.add_argument(
        "--check", action="store_true", help="compare forecasts with the finished jobs of the store instead"
    )
    arguments = parser.parse_args()
    # Imports torch, which the processes that rehearse must not find imported.
    from winnow.rehearse.run import Options, check, rehearse_plan

    values = read_settings(arguments).model_dump() | ({"scale": arguments.scale} if arguments.scale else {})
    plan = load_plan(values, check_sources=False)
    output = arguments.output or plan.config.scale_folder / "rehearsal"
    card = arguments.card or ("a100-40" if plan.config.scale == "paper" and not arguments.check else "here")
    options = Options(card, arguments.gpus, arguments.cores, arguments.seconds, output)
    if arguments.check:
        check(plan, options)
    else:
        rehearse_plan(plan, options)


if __name__ == "__main__":
    run_main(main)
