"""Decode a dataset's files into arrays: <split>_images.npy, <split>_labels.npy, ids and dataset.json.

The files must lie in STORE/../data/<dataset>/, where `snakemake download` puts them.

Example, repeating a job by hand:
  .venv/bin/python scripts/prepare.py --spec results/demo/prepare/ID/spec.json --store results/demo \\
      --output /tmp/again
"""

from __future__ import annotations

from winnow.data.prepare import prepare
from winnow.errors import UserError, run_main
from winnow.plan.catalogue import load_catalogue, varied
from winnow.plan.code import ROOT
from winnow.plan.specs import PrepareSpec
from winnow.seeds import derive
from winnow.stage import parse_job


def main() -> None:
    job = parse_job(__doc__, PrepareSpec)
    spec = job.spec
    entry = load_catalogue(ROOT / "datasets.yaml").get(spec.dataset)
    entry = entry and varied(entry, spec.entry["options"], f"datasets.yaml: {spec.dataset}")
    if entry is None or entry.content() != spec.entry:
        raise UserError(f"datasets.yaml: {spec.dataset} is not what this spec describes; plan again")
    folder = job.store.parent / "data"
    files = {name: folder / place for name, place in entry.sources().items()}
    with job.building() as artefact:
        if artefact is not None:
            with artefact.timed("all"):
                seed = derive(spec.root_seed, "data", 0)
                whitened = spec.seen == "zca"
                prepare(entry, files, artefact.out, spec.limits, seed, spec.pool, spec.holdout, whitened)


if __name__ == "__main__":
    run_main(main)
