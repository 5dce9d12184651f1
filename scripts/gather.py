"""Join all suites of a plan: metrics.parquet, claims.json, and index.parquet with every artefact's fields.

Example:
  .venv/bin/python scripts/gather.py --output results/demo
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from winnow.errors import run_main
from winnow.plan.plan import Plan
from winnow.plan.settings import add_settings, read_plan
from winnow.store import read_json, write_json
from winnow.tables import read_table, write_table


def index(plan: Plan) -> pd.DataFrame:
    """Return one row per artefact: id, stage, the suites that use it, and its spec."""
    return pd.DataFrame(
        {
            "id": node.id,
            "stage": node.spec.stage,
            "suites": ",".join(sorted(plan.graph.users[reference])),
            "inputs": ",".join(sorted(node.spec.inputs().values())),
            "code": plan.code(node.spec.stage, node.id),
            "spec": json.dumps(node.spec.model_dump(mode="json"), sort_keys=True),
        }
        for reference, node in sorted(plan.graph.nodes.items())
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_settings(parser)
    parser.add_argument("--output", required=True, type=Path, help="folder of the scale, e.g. results/demo")
    arguments = parser.parse_args()
    plan = read_plan(arguments)
    folders = [plan.suite_folder(suite) for suite in plan.suites]
    metrics = pd.concat([read_table(folder / "metrics.parquet") for folder in folders], ignore_index=True)
    claims = [{"suite": f.name, **claim} for f in folders for claim in read_json(f / "claims.json")]
    write_table(arguments.output / "metrics.parquet", metrics)
    write_table(arguments.output / "index.parquet", index(plan))
    write_json(arguments.output / "claims.json", claims)


if __name__ == "__main__":
    run_main(main)
