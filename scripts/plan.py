"""Print what would run: stages, jobs, what suites share, bytes to download, time where it is known.

Writes nothing. Times come from finished jobs of the same scale; run a part to learn more.

Examples:
  .venv/bin/python scripts/plan.py
  .venv/bin/python scripts/plan.py --scale paper
  .venv/bin/python scripts/plan.py --settings '{"scale": "small", "seeds": 5}' --jobs
"""

from __future__ import annotations

import argparse

from winnow.errors import UserError, run_main
from winnow.plan.estimate import estimate_downloads, estimate_stages, seeds_beyond_request
from winnow.plan.plan import Plan, load_plan, require_sources
from winnow.plan.settings import add_settings, read_settings


def amount(count: float | None, units: tuple[str, ...], step: float) -> str:
    """Return a number with the unit that keeps it short; a dash for None."""
    if count is None:
        return "-"
    for unit in units[:-1]:
        if count < step:
            return f"{count:.0f} {unit}" if unit == units[0] else f"{count:.1f} {unit}"
        count /= step
    return f"{count:.1f} {units[-1]}"


def size(count: int | None) -> str:
    return amount(count, ("B", "kB", "MB", "GB"), 1000)


def show(plan: Plan) -> None:
    print(f"scale {plan.config.scale}, suites: {', '.join(plan.suites)}, store: {plan.config.store}\n")
    print(f"{'stage':<12}{'jobs':>6}{'done':>6}{'shared':>8}{'time to do':>13}{'on disk':>10}")
    stages = estimate_stages(plan)
    for row in stages:
        time = "unknown" if row.unknown else amount(row.seconds_to_do, ("s", "min", "h"), 60)
        counts = f"{row.jobs:>6}{row.done:>6}{row.shared:>8}"
        print(f"{row.stage:<12}{counts}{time:>13}{size(row.bytes_written):>10}")
    print(f"{'total':<12}{sum(r.jobs for r in stages):>6}{sum(r.done for r in stages):>6}")
    print("\n`time to do` is for one job at a time; two slots need about half of it.")
    if seeds_beyond_request(plan):
        extra = seeds_beyond_request(plan)
        print(f"Jobs hold whole chunks of repetitions: {extra} more than asked for are computed.")
    print(f"\n{'dataset':<22}{'files':>10}{'to fetch':>12}")
    for data in estimate_downloads(plan):
        fetched = "unknown" if data.bytes_to_fetch is None else size(data.bytes_to_fetch)
        print(f"{data.dataset:<22}{size(data.bytes_total):>10}{fetched:>12}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_settings(parser)
    parser.add_argument("--scale", choices=("demo", "small", "paper"), help="instead of the settings' scale")
    parser.add_argument("--jobs", action="store_true", help="also list every job with the suites that use it")
    arguments = parser.parse_args()
    values = read_settings(arguments).model_dump() | ({"scale": arguments.scale} if arguments.scale else {})
    plan = load_plan(values, check_sources=False)
    show(plan)
    try:
        require_sources(plan)
    except UserError as error:
        print(f"\nnote: {error}")
    if arguments.jobs:
        print()
        for reference in plan.graph.nodes:
            print(f"{reference}  [{', '.join(sorted(plan.graph.users[reference]))}]")


if __name__ == "__main__":
    run_main(main)
