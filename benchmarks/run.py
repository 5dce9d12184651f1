"""Time our code beside named peers: same input, same machine, one run each, quality beside the time.

Every benchmark is a module `bench_<name>.py` here, with a `run()` that yields comparisons.

Examples:
  .venv/bin/python benchmarks/run.py --list
  .venv/bin/python benchmarks/run.py sas
  .venv/bin/python benchmarks/run.py sas --json
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from winnow.errors import run_main, unknown

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
NAMES = sorted(p.stem.removeprefix("bench_") for p in Path(__file__).parent.glob("bench_*.py"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="*", help=f"default: all of {', '.join(NAMES)}")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--json", action="store_true", help="one JSON object a line per comparison")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(NAMES))
        return
    for name in arguments.name or NAMES:
        if name not in NAMES:
            raise unknown("benchmark", name, NAMES, "benchmarks/run.py")
        for found in importlib.import_module(f"benchmarks.bench_{name}").run():
            print(json.dumps(vars(found)) if arguments.json else found.line(), flush=True)


if __name__ == "__main__":
    run_main(main)
