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
from winnow.locks import share_with_group
from winnow.plan.code import code_digest, sources_digest
from winnow.plan.config import load_config
from winnow.plan.specs import Spec as BaseSpec
from winnow.plan.yamlfile import validate
from winnow.store import (
    MANIFEST,
    Artefact,
    building,
    content_digest,
    point,
    stored_name,
    write_json,
)

ROOT = Path(__file__).resolve().parents[2]
Spec = TypeVar("Spec", bound=BaseSpec)


@dataclass(frozen=True)
class Job(Generic[Spec]):
    """One run of a stage: its validated spec and where it may read and write.

    `shared` is the folder of this scale in a shared store: the artefact is built there, under the name that
    `stored_name` gives it, and `output` becomes a link to it.
    """

    spec: Spec
    store: Path
    output: Path
    code: str
    device: str
    processes: int = 1
    shared: Path | None = None

    def input(self, reference: str) -> Path:
        """Return the folder of an upstream artefact (`<stage>/<id>`); of a link, what it points to."""
        folder = self.store / reference
        if not (folder / MANIFEST).is_file():
            raise UserError(f"{folder}: the input artefact is not there. Run the stage that makes it first.")
        return folder.resolve() if folder.is_symlink() else folder

    def place(self) -> Path:
        """Return where the artefact itself goes."""
        if self.shared is None:
            return self.output
        uses = {name: self.input(reference).name for name, reference in self.spec.inputs().items()}
        name = stored_name(self.output.name, self.spec.json_text(), self.code, uses)
        return self.shared / self.spec.stage / name

    @contextlib.contextmanager
    def building(self) -> Iterator[Artefact | None]:
        """Build the output; adds `spec.json` and `provenance.json` with the costs per repetition."""
        started = time.time()
        spec = self.spec.content()
        contents = {name: content_digest(self.input(ref)) for name, ref in sorted(self.spec.inputs().items())}
        identity = {"spec": canonical_json(spec), "code": self.code, "inputs": canonical_json(contents)}
        place = self.place()
        with building(place, identity) as artefact:
            yield artefact
            if artefact is None:
                print(f"{place}: already there, made by another run of the same spec and code")
            else:
                self._describe(artefact, started)
        if place != self.output:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            point(self.output, place)

    def _describe(self, artefact: Artefact, started: float) -> None:
        """Write the spec and what the artefact has cost so far into it."""
        write_json(artefact.out / "spec.json", self.spec.content())
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
        "--code",
        default="by hand",
        help="digest of the stage's code, recorded with the artefact; after a colon, the plugins it covers",
    )
    settings = load_config(json.loads(os.environ.get("WINNOW_SETTINGS", "{}")), "WINNOW_SETTINGS")
    device = settings.device
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
    if settings.shared_store is not None:
        share_with_group(settings.shared_store)
    return Job(
        _read_spec(arguments.spec, spec),
        arguments.store or arguments.output.parent.parent,
        arguments.output,
        _present_code(arguments.code),
        load_config({"device": arguments.device}, "--device").device,
        arguments.processes if parallel else 1,
        settings.shared_store and settings.shared_store / settings.scale,
    )


def _present_code(planned: str) -> str:
    """Return the digest of the stage's code; refuse to work with other code than was planned.

    planned: the digest and, after a colon, the plugins that it covers, separated by commas.
    """
    digest, _, plugins = planned.partition(":")
    if plugins and os.environ.get("WINNOW_SOURCES") != sources_digest():
        script = Path(sys.argv[0]).stem
        if code_digest(script, tuple(plugins.split(","))) != digest:
            raise UserError(f"scripts/{script}.py: its code has changed since this run began. Run again.")
    return digest


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
