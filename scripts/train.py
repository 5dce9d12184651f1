"""Train one model per repetition, on a subset or on all data.

A killed run resumes from its last checkpoint when the same command is given again.
Writes: s<seed>/model.safetensors (weights), s<seed>/history.parquet (loss and learning rate per step),
spec.json, provenance.json and manifest.json.

With --processes N the batch is shared by N processes, each on a GPU of its own or all on processors, and over
all nodes of a Slurm job. The result is that of one process within rounding: a killed run resumes with any N.

Example, repeating a job by hand:
  .venv/bin/python scripts/train.py --spec results/demo/train/ID/spec.json --store results/demo \\
      --output /tmp/again
"""

from __future__ import annotations

from winnow.errors import run_main
from winnow.plan.specs import TrainSpec
from winnow.stage import parse_job
from winnow.train.engine.launch import start_processes


def main() -> None:
    job = parse_job(__doc__, TrainSpec, parallel=True)
    start_processes(job.processes, job.device)
    from winnow.train.engine.run import train_all

    train_all(job)


if __name__ == "__main__":
    run_main(main)
