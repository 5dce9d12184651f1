"""Train one model per repetition, on a subset or on all data.

A killed run resumes from its last checkpoint when the same command is given again.
Writes: s<seed>/model.safetensors (weights), s<seed>/history.parquet (loss and learning rate per step),
spec.json, provenance.json and manifest.json.

Example, repeating a job by hand:
  .venv/bin/python scripts/train.py --spec results/demo/train/ID/spec.json --store results/demo \\
      --output /tmp/again
"""

from __future__ import annotations

from winnow.errors import run_main
from winnow.plan.specs import TrainSpec
from winnow.stage import parse_job


def main() -> None:
    job = parse_job(__doc__, TrainSpec)
    from winnow.train.engine.run import train_all

    with job.building() as artefact:
        if artefact is not None:
            train_all(job, artefact)


if __name__ == "__main__":
    run_main(main)
