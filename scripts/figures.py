"""Draw one figure from a suite's tables, as PDF, PNG and the CSV of what it shows.

A figure that pairs or fits over seeds reads the metrics, any other the summary with the costs.

Example (S=results/demo/suites/sas):
  .venv/bin/python scripts/figures.py --metrics $S/metrics.parquet --summary $S/summary.parquet \\
      --cost $S/cost.parquet --output /tmp/figure.png --spec \\
    '{"figure": "accuracy_vs_cost", "options": {}, "arms": [["full", {"label": "all", "role": "reference"}]]}'
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from winnow.errors import UserError, run_main
from winnow.figures import draw, load
from winnow.figures.layout import join_cost
from winnow.figures.style import save
from winnow.tables import read_table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--spec", required=True, help="JSON with figure, options, a list of arms and, for messages, where"
    )
    parser.add_argument("--metrics", required=True, type=Path, help="the suite's metrics.parquet")
    parser.add_argument("--summary", required=True, type=Path, help="the suite's summary.parquet")
    parser.add_argument("--cost", required=True, type=Path, help="the suite's cost.parquet")
    parser.add_argument("--output", required=True, type=Path, help="the PNG; PDF and CSV go beside it")
    arguments = parser.parse_args()
    try:
        spec = json.loads(arguments.spec)
        name, options, arms = spec["figure"], spec["options"], dict(spec["arms"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"--spec: expected JSON with figure, options and arms ({error!r})") from error
    if load(name).TABLE == "values":
        table = read_table(arguments.metrics)
    else:
        table = join_cost(read_table(arguments.summary), read_table(arguments.cost))
    try:
        figure, shown = draw(name, table, arms, **options)
    except UserError as error:
        raise UserError(f"{spec.get('where', '--spec')}: {error}") from error
    save(figure, shown, arguments.output.with_suffix(""))


if __name__ == "__main__":
    run_main(main)
