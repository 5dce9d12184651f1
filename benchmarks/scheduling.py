"""What Snakemake's own process costs while jobs run: with its rounds as they come, and without idle ones.

A generated Snakefile has so many jobs that wait for one of the cores, each with a few inputs and a fraction
of a second long. Seconds are of Snakemake's process alone, without the jobs; the decision is
docs/decisions/0024-rounds.md.

Examples:
  .venv/bin/python benchmarks/scheduling.py
  .venv/bin/python benchmarks/scheduling.py --jobs 300 --seconds 0.1
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from winnow.errors import run_main
from winnow.plan.code import ROOT

SNAKEFILE = """
import resource
import sys

sys.path.insert(0, {source!r})
from winnow.plan.rounds import end_idle_rounds

rule all:
    input: expand("r/{{i}}", i=range({jobs}))

rule one:
    input: expand("in/{{k}}", k=range(8))
    output: "r/{{i}}"
    shell: "sleep {seconds}; touch {{output}}"

onstart:
    if {mended}:
        end_idle_rounds(workflow.scheduler)

onsuccess:
    own = resource.getrusage(resource.RUSAGE_SELF)
    open("cost.txt", "w").write(str(own.ru_utime + own.ru_stime))
"""


def measured(jobs: int, seconds: float, mended: bool) -> tuple[float, float]:
    """Return the processor seconds of Snakemake's process, and the wall's of the run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for k in range(8):
            (folder / "in" / str(k)).touch()
        source = str(ROOT / "src")
        text = SNAKEFILE.format(source=source, jobs=jobs, seconds=seconds, mended=mended)
        (folder / "Snakefile").write_text(text)
        begun = time.perf_counter()
        done = subprocess.run(
            [str(Path(sys.executable).with_name("snakemake")), "--cores", "2", "--quiet", "all"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"snakemake failed:\n{done.stderr[-2000:]}")
        return float((folder / "cost.txt").read_text()), time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, nargs="+", default=[100, 300, 1000], help="jobs that wait")
    parser.add_argument("--seconds", type=float, default=0.2, help="how long a job takes")
    arguments = parser.parse_args()
    for jobs in arguments.jobs:
        for mended in (False, True):
            own, wall = measured(jobs, arguments.seconds, mended)
            kind = "without idle rounds" if mended else "as it comes"
            print(f"{jobs:6d} jobs, {kind:20s} {own:7.1f} s of the processor in {wall:7.1f} s", flush=True)


if __name__ == "__main__":
    run_main(main)
