"""Judge a suite: intervals, paired tests, claims with verdicts, costs, the paper's numbers beside ours.

Writes summary.parquet, cost.parquet, reproduction.parquet and claims.json.

Example:
  .venv/bin/python scripts/evidence.py --suite sas \\
      --metrics results/demo/suites/sas/metrics.parquet --output /tmp/sas
"""

from __future__ import annotations

import argparse
from pathlib import Path

from winnow.errors import run_main
from winnow.evidence.claims import judge
from winnow.evidence.cost import cost_table
from winnow.evidence.paired import summary
from winnow.evidence.reproduction import reproduction_table
from winnow.plan.settings import add_settings, read_plan
from winnow.store import write_json
from winnow.tables import read_table, write_table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_settings(parser)
    parser.add_argument("--suite", required=True, help="name of a suite of the plan")
    parser.add_argument("--metrics", required=True, type=Path, help="the suite's metrics.parquet")
    parser.add_argument("--output", required=True, type=Path, help="folder to write into")
    arguments = parser.parse_args()
    plan = read_plan(arguments)
    suite, scale = plan.suites[arguments.suite], plan.config.scale
    metrics = read_table(arguments.metrics)
    reference = next(name for name, arm in suite.arms.items() if arm.role == "reference")
    table = summary(metrics)
    command = f".venv/bin/snakemake {suite.name} --config scale=paper"
    reproduced = reproduction_table(suite.reproduction, table, scale, command)
    write_table(arguments.output / "summary.parquet", table)
    write_table(arguments.output / "cost.parquet", cost_table(metrics, reference))
    write_table(arguments.output / "reproduction.parquet", reproduced)
    write_json(arguments.output / "claims.json", judge(suite.claims, metrics, scale))


if __name__ == "__main__":
    run_main(main)
