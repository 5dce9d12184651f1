"""Print what no plan needs: artefacts, logs, benchmarks, unfinished work, downloads. Deletes when told to.

Kept is what the given plans need at the scales to be cleared (by default, config.yaml at its own scale), and
in a shared store what any clone's last run of each of its settings needs; those are in STORE/plans. Also
kept is what a live process is making, every other scale, and the suites' tables, figures and reports.

Examples:
  .venv/bin/python scripts/garbage.py
  .venv/bin/python scripts/garbage.py --scale demo small --plan config.yaml --plan '{"seeds": 9}'
  .venv/bin/python scripts/garbage.py --delete
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from winnow.errors import UserError, run_main
from winnow.locks import locked, share_with_group
from winnow.plan.code import ROOT
from winnow.plan.config import RESULTS, load_config
from winnow.plan.garbage import Leftover, leftovers
from winnow.plan.plan import Plan, load_plan, suite_file
from winnow.plan.runlock import hold
from winnow.plan.shared import registered, store_lock
from winnow.plan.suite import load_suite
from winnow.plan.yamlfile import load_yaml

SCALES = ("demo", "small", "paper")


def settings(text: str) -> dict[str, Any]:
    """Return the settings of one plan: a config file, or JSON with keys that differ from config.yaml."""
    if not text.lstrip().startswith("{"):
        return load_yaml(Path(text))
    try:
        return load_yaml(ROOT / "config.yaml") | json.loads(text)
    except ValueError as error:
        raise UserError(f"--plan: neither a file nor JSON ({error}).") from error


def plans_at_all_scales(values: dict[str, Any]) -> list[Plan]:
    """Return the plan of some settings at each scale, with the suites that have it."""
    names = load_config(values).suites
    suites = {name: load_suite(suite_file(ROOT, name)) for name in names}
    offered = {scale: [name for name in names if scale in suites[name].scales] for scale in SCALES}
    return [
        load_plan(values | {"scale": scale, "suites": listed}, check_sources=False)
        for scale, listed in offered.items()
        if listed
    ]


def show(found: list[Leftover]) -> None:
    now = time.time()
    print(f"{'kind':<12}{'MB':>12}{'days':>8}  path")
    for item in found:
        print(f"{item.kind:<12}{item.bytes / 1e6:>12.3f}{(now - item.changed) / 86400:>8.1f}  {item.path}")
    kinds = Counter(item.kind for item in found)
    counts = ", ".join(f"{count} of kind {kind}" for kind, count in sorted(kinds.items())) or "nothing"
    print(f"\n{counts}; {sum(item.bytes for item in found) / 1e6:.3f} MB in all")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", action="append", help="a config file, or JSON with the keys that differ")
    parser.add_argument(
        "--scale", nargs="+", choices=SCALES, help="the scales to clear (default: the plans' own)"
    )
    parser.add_argument("--delete", action="store_true", help="delete what is listed")
    arguments = parser.parse_args()
    chosen = [settings(text) for text in arguments.plan or [str(ROOT / "config.yaml")]]
    scales = set(arguments.scale or [values.get("scale", "demo") for values in chosen])
    plans = [plan for values in chosen for plan in plans_at_all_scales(values)]
    stores = {plan.config.shared_store or RESULTS for plan in plans}
    if len(stores) != 1:
        raise UserError("--plan: the plans name several stores; give those of one store at a time.")
    (store,) = stores
    with contextlib.ExitStack() as stack:
        if arguments.delete:
            running = hold(Path(".snakemake"))
            if running is None:
                raise UserError("a run of this clone is alive; delete when it has ended.")
            stack.enter_context(running)
            if store != RESULTS and store.is_dir():
                share_with_group(store)
                stack.enter_context(locked(store_lock(store)))
        found = list(leftovers(plans, scales, store))
        show(found)
        for plan in registered(store) if store != RESULTS else ():
            days = (time.time() - plan.file.stat().st_mtime) / 86400
            print(f"kept for {plan.clone} {plan.settings}, run {days:.1f} days ago ({plan.file})")
        if arguments.delete:
            busy = [item.path for item in found if not item.delete()]
            print(f"deleted {len(found) - len(busy)}" + "".join(f"\nat work: {path}" for path in busy))
        elif found:
            print("nothing was deleted; `make gc ARGS=--delete` does")


if __name__ == "__main__":
    run_main(main)
