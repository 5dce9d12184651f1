"""Measure trained models, selections or synthetic sets with a fixed protocol.

The test split is scored once, by the last epoch's model, and chooses nothing. Writes: s<seed>/metrics.json,
spec.json, provenance.json and manifest.json; rankings also s<seed>/runs.parquet, a row per network, and a
killed one goes on where it was when the same command is given again.

Example, repeating a job by hand:
  .venv/bin/python scripts/evaluate.py --spec results/demo/evaluate/ID/spec.json --store results/demo \\
      --output /tmp/again
"""

from __future__ import annotations

from winnow.errors import run_main
from winnow.plan.specs import EvaluateSpec
from winnow.stage import parse_job


def main() -> None:
    job = parse_job(__doc__, EvaluateSpec)
    from winnow.evaluate.engine.run import evaluate_all

    with job.building() as artefact:
        if artefact is not None:
            evaluate_all(job, artefact)


if __name__ == "__main__":
    run_main(main)
