"""How long Snakemake plans, and how much memory it takes, beside a bare Snakefile of the same number of jobs.

Ours is the suite `sas` at the demo scale with more and more repetitions; bare is a generated Snakefile with
as many jobs in chains of three, with nothing but input, output, log and command. Each is planned twice: with
nothing done (a dry run), and with everything done (a run that finds nothing to do). Seconds are of the wall
and of the processor, memory is the largest resident set of the process.

Examples:
  .venv/bin/python benchmarks/planning.py
  .venv/bin/python benchmarks/planning.py --jobs 100 1000
  .venv/bin/python benchmarks/planning.py --output docs/results
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from winnow.errors import run_main
from winnow.figures.style import METHOD_COLORS, METHOD_MARKERS, PNG_DPI, styled
from winnow.plan.code import ROOT
from winnow.plan.plan import Plan, load_plan
from winnow.plan.yamlfile import load_yaml

JOBS = (100, 300, 1000, 3000, 10000)
COLUMNS = ("wall_s", "cpu_s", "peak_gb")
BARE = """
rule all:
    input: expand("r/c/{{i}}", i=range({count}))

rule a:
    output: directory("r/a/{{i}}")
    log: "l/a/{{i}}.log"
    shell: "mkdir {{output}} > {{log}}"
"""
BARE_STEP = """
rule {name}:
    input: "r/{before}/{{i}}"
    output: directory("r/{name}/{{i}}")
    log: "l/{name}/{{i}}.log"
    shell: "mkdir {{output}} > {{log}}"
"""


def snakemake(folder: Path, snakefile: Path, *words: str) -> dict[str, float]:
    """Return what one planning in a folder costs; unless it is a dry run, nothing may be left to do."""
    command = [str(Path(sys.executable).with_name("snakemake")), "all", "--cores", "1"]
    log = folder / "log.txt"
    with log.open("w") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--snakefile", str(snakefile), *words], cwd=folder, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
    if status or ("--dry-run" not in words and "Nothing to be done" not in log.read_text()):
        sys.exit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    return dict(zip(COLUMNS, (wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20), strict=True))


def make(folder: Path, paths: Iterable[str], is_folder: bool) -> None:
    """Make files or folders, all of one age: none is newer than what is made from it."""
    for name in paths:
        path = folder / name
        (path if is_folder else path.parent).mkdir(parents=True, exist_ok=True)
        if not is_folder:
            path.touch()
        os.utime(path, (0, 0))


def planned(seeds: int) -> Plan:
    values = load_yaml(ROOT / "config.yaml")
    return load_plan(values | {"scale": "demo", "suites": ["sas"], "seeds": seeds, "store": "results"})


def ours(jobs: int, folder: Path) -> Iterator[dict[str, object]]:
    """Plan about as many jobs of our workflow; repetitions come in whole chunks."""
    first, second = (len(planned(seeds).graph.nodes) for seeds in (3, 6))
    plan = planned(3 * max(1, 1 + round((jobs - first) / (second - first))))
    shutil.copy(ROOT / "config.yaml", folder)
    words = ["--config", "scale=demo", "suites=[sas]", f"seeds={plan.config.seeds}"]
    point = {"workflow": "ours", "jobs": len(plan.graph.nodes)}
    yield point | {"done": "nothing"} | snakemake(folder, ROOT / "Snakefile", "--dry-run", *words)
    make(folder, map(plan.path, plan.graph.nodes), is_folder=True)
    make(folder, [*plan.suite_targets("sas"), *plan.overall_targets()], is_folder=False)
    figures = (Path(figure) for figure in plan.figures("sas"))
    make(folder, (str(f.with_suffix(end)) for f in figures for end in (".pdf", ".csv")), is_folder=False)
    yield point | {"done": "everything"} | snakemake(folder, ROOT / "Snakefile", *words)


def bare(jobs: int, folder: Path) -> Iterator[dict[str, object]]:
    """Plan as many jobs of a Snakefile that does nothing else."""
    count, file = max(1, round(jobs / 3)), folder / "Snakefile"
    steps = [BARE_STEP.format(before=before, name=name) for before, name in ("ab", "bc")]
    file.write_text("".join([BARE.format(count=count), *steps]))
    point = {"workflow": "bare", "jobs": 3 * count}
    yield point | {"done": "nothing"} | snakemake(folder, file, "--dry-run")
    make(folder, (f"r/{name}/{i}" for name in "abc" for i in range(count)), is_folder=True)
    yield point | {"done": "everything"} | snakemake(folder, file)


@styled
def plot(points: pd.DataFrame) -> Figure:
    """Return processor seconds and memory against the number of jobs."""
    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    panels = figure.subplots(1, 2)
    for place, ((workflow, done), own) in enumerate(points.groupby(["workflow", "done"])):
        style = {"color": METHOD_COLORS[place], "marker": METHOD_MARKERS[place], "markersize": 3.5}
        for panel, column in zip(panels, ("cpu_s", "peak_gb"), strict=True):
            panel.plot(own["jobs"], own[column], label=f"{workflow}, {done} done", linewidth=1.1, **style)
    for panel, title in zip(panels, ("processor seconds", "GB of memory"), strict=True):
        panel.set(xscale="log", yscale="log", xlabel="jobs", ylabel=title)
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter("")
    panels[0].legend(fontsize=7)
    return figure


def write(points: pd.DataFrame, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    points.to_csv(folder / "planning.csv", index=False, float_format="%.4g", lineterminator="\n")
    styled(plot(points).savefig)(folder / "planning.png", dpi=PNG_DPI)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--jobs", nargs="+", type=int, default=JOBS, help="numbers of jobs (default: 100 to 10000)"
    )
    parser.add_argument("--output", type=Path, help="folder for planning.csv and planning.png")
    arguments = parser.parse_args()
    rows = []
    for jobs in arguments.jobs:
        for workflow in (ours, bare):
            with tempfile.TemporaryDirectory() as folder:
                for row in workflow(jobs, Path(folder)):
                    rows.append(row)
                    print(
                        " ".join(
                            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
                        )
                    )
        if arguments.output is not None:
            write(pd.DataFrame(rows), arguments.output)


if __name__ == "__main__":
    run_main(main)
