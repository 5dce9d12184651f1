"""What every stage script shares: its command line, its artefact, its provenance."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

from winnow import provenance
from winnow.canonical import canonical_json
from winnow.errors import UserError
from winnow.plan.config import load_config
from winnow.plan.specs import Spec as BaseSpec
from winnow.plan.yamlfile import validate
from winnow.store import MANIFEST, Artefact, building, content_digest, write_json

ROOT = Path(__file__).resolve().parents[2]
Spec = TypeVar("Spec", bound=BaseSpec)


@dataclass(frozen=True)
class Job(Generic[Spec]):
    """One run of a stage: its validated spec and where it may read and write."""

    spec: Spec
    store: Path
    output: Path
    code: str
    device: str
    processes: int = 1

    def input(self, reference: str) -> Path:
        """Return the folder of an upstream artefact (`<stage>/<id>`)."""
        folder = self.store / reference
        if not (folder / MANIFEST).is_file():
            raise UserError(f"{folder}: the input artefact is not there. Run the stage that makes it first.")
        return folder

    @contextlib.contextmanager
    def building(self) -> Iterator[Artefact | None]:
        """Build the output; adds `spec.json` and `provenance.json` with the costs per repetition."""
        started = time.time()
        spec = self.spec.model_dump(mode="json")
        contents = {name: content_digest(self.input(ref)) for name, ref in sorted(self.spec.inputs().items())}
        identity = {"spec": canonical_json(spec), "code": self.code, "inputs": canonical_json(contents)}
        with building(self.output, identity) as artefact:
            yield artefact
            if artefact is None:
                print(f"{self.output}: already there, made by a concurrent run of the same spec and code")
                return
            write_json(artefact.out / "spec.json", spec)
            facts = provenance.collect(ROOT, self.device, started, time.time())
            facts["bytes_written"] = sum(p.stat().st_size for p in artefact.out.rglob("*") if p.is_file())
            facts["costs"] = {seed: asdict(cost) for seed, cost in artefact.costs.items()}
            write_json(artefact.out / "provenance.json", facts | artefact.facts)


def parse_job(doc: str, spec: type[Spec], parallel: bool = False) -> Job[Spec]:
    """Parse a stage's command line.

    doc: the script's docstring, shown by `--help`. spec: the model that the JSON must satisfy.
    parallel: whether the stage can use several processes.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, help="the stage's spec: JSON text, or a path to a spec.json")
    parser.add_argument(
        "--store", type=Path, help="folder of the artefacts, e.g. results/demo (default: two above --output)"
    )
    parser.add_argument(
        "--output", required=True, type=Path, help="folder to make; it appears complete or not at all"
    )
    parser.add_argument(
        "--code", default="by hand", help="digest of the stage's code, recorded with the artefact"
    )
    device = json.loads(os.environ.get("WINNOW_SETTINGS", "{}")).get("device", "auto")
    parser.add_argument("--device", default=device, help=f"auto, cpu, cuda or cuda:N (default: {device})")
    parser.add_argument(
        "--threads", type=int, default=0, help="processor threads (default: what the job is given)"
    )
    if parallel:
        parser.add_argument(
            "--processes", type=int, default=1, help="processes that share the work (default: 1)"
        )
    arguments = parser.parse_args()
    if arguments.threads:
        shares = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's: processes on this node
        os.environ["OMP_NUM_THREADS"] = str(max(1, arguments.threads // shares))
    return Job(
        _read_spec(arguments.spec, spec),
        arguments.store or arguments.output.parent.parent,
        arguments.output,
        arguments.code,
        load_config({"device": arguments.device}, "--device").device,
        arguments.processes if parallel else 1,
    )


def _read_spec(text: str, model: type[Spec]) -> Spec:
    source, remedy = "--spec", "Take one from an artefact's spec.json."
    try:
        if not text.lstrip().startswith("{"):
            if not os.path.isfile(text):
                raise UserError(f"--spec: '{text}' is neither JSON text nor a file. {remedy}")
            source, text = text, Path(text).read_text(encoding="utf-8")
        values = json.loads(text)
    except ValueError as error:
        raise UserError(f"{source}: not JSON ({error}). {remedy}") from error
    return validate(model, values, source)


def log(message: str) -> None:
    """Print a line of progress at once."""
    print(message, file=sys.stderr, flush=True)
