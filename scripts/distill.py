"""Make synthetic training examples with one method of dataset distillation.

A killed run resumes from its last checkpoint when the same command is given again. Writes:
s<seed>/synthetic.safetensors (images as networks see them, labels, soft labels or targets, learned step
size), s<seed>/history.parquet, s<seed>/preview.png (the images on their way), s<seed>/facts.json,
spec.json, provenance.json and manifest.json.

Example, repeating a job by hand:
  .venv/bin/python scripts/distill.py --spec results/demo/distill/ID/spec.json --store
  results/demo \\
      --output /tmp/again
"""

from __future__ import annotations

from winnow.errors import run_main
from winnow.plan.specs import DistillSpec
from winnow.stage import parse_job


def main() -> None:
    job = parse_job(__doc__, DistillSpec)
    from winnow.distill.engine.run import distill_all

    with job.building() as artefact:
        if artefact is not None:
            distill_all(job, artefact)


if __name__ == "__main__":
    run_main(main)
