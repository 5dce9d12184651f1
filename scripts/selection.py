"""Choose examples with one method.

A nested method is asked for its full ordering, which serves every budget.
Writes: s<seed>/subset.parquet (index, weight, rank), s<seed>/facts.json, s<seed>/scores.parquet where the
method scores, spec.json, provenance.json and manifest.json.

Example, repeating a job by hand:
  .venv/bin/python scripts/selection.py --spec results/demo/selection/ID/spec.json --store results/demo \\
      --output /tmp/again
"""

from __future__ import annotations

from winnow.errors import run_main
from winnow.plan.specs import SelectSpec
from winnow.stage import parse_job


def main() -> None:
    job = parse_job(__doc__, SelectSpec)
    from winnow.select.engine.run import select_all

    with job.building() as artefact:
        if artefact is not None:
            select_all(job, artefact)


if __name__ == "__main__":
    run_main(main)
