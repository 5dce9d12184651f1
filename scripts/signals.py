"""Compute one signal (embeddings, latent classes, ...) for every example of a pool.

Signals are computed once and shared by all methods and suites that need them.
Writes: s<seed>/signal.npy,
spec.json, provenance.json and manifest.json.

Example, repeating a job by hand:
  .venv/bin/python scripts/signals.py --spec results/demo/signals/ID/spec.json --store results/demo \\
      --output /tmp/again
"""

from __future__ import annotations

from winnow.errors import run_main
from winnow.plan.specs import SignalSpec
from winnow.stage import parse_job


def main() -> None:
    job = parse_job(__doc__, SignalSpec)
    from winnow.signals.engine.run import compute_all

    with job.building() as artefact:
        if artefact is not None:
            compute_all(job, artefact)


if __name__ == "__main__":
    run_main(main)
