"""Kill -9 at random points, then the same command again: the results are those of an undisturbed run."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from tree import Tree, broken_artefacts, read_manifest

from winnow.canonical import sha256_file
from winnow.evidence.metrics import COST_COLUMNS

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("WINNOW_KILLS", "9"))
"""How often something is killed at least, in three ways in turn, before a run is left alone."""
SEED = 2


class Run:
    """One run of the workflow in a session of its own, by which its processes are found."""

    def __init__(self, tree: Tree, log: Path) -> None:
        self.tree, self.log, self.started = tree, log, time.time_ns()
        with log.open("w") as output:
            self.process = subprocess.Popen(
                tree.command(),
                cwd=tree.root,
                env=tree.environment(WINNOW_CHECKPOINT_SECONDS="0.1"),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def alive(self) -> list[psutil.Process]:
        """Return the session's processes that still run, orphans included."""
        found = []
        for process in psutil.process_iter():
            try:
                same = os.getsid(process.pid) == self.process.pid
                if same and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    def jobs(self) -> list[psutil.Process]:
        """Return the processes of stage scripts."""
        found = []
        for process in self.alive():
            try:
                if any(re.fullmatch(r"scripts/\w+\.py", word) for word in process.cmdline()):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def lasts(self, seconds: float) -> bool:
        """Wait; False when the run ended by itself before the time was over."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def reaches(self, sign: Callable[[], object]) -> bool:
        """Wait for a sign; False when the run ended before."""
        while self.process.poll() is None:
            if sign():
                return True
            time.sleep(0.02)
        return False

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints that this run has written."""
        found = []
        for path in self.tree.store.glob(".work/train/*/checkpoints/*.safetensors"):
            with contextlib.suppress(FileNotFoundError):
                found += [path] if path.stat().st_mtime_ns > self.started else []
        return found


def kill_everything(run: Run, _: random.Random) -> bool:
    os.killpg(run.process.pid, signal.SIGKILL)
    run.process.wait()
    return True


def kill_snakemake(run: Run, _: random.Random) -> bool:
    """Its jobs live on as orphans while the next run starts."""
    run.process.kill()
    run.process.wait()
    return True


def kill_one_job(run: Run, chance: random.Random) -> bool:
    """Snakemake lives on, reports the job as failed, and does what does not need it."""
    try:
        chance.choice(run.jobs()).kill()
    except (IndexError, psutil.NoSuchProcess):
        return False
    return True


class Killer:
    """Repeats the command and kills it at random moments until it ends by itself."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.chance, self.span = folder, random.Random(SEED), 2.0
        self.ways: Iterator[Callable[[Run, random.Random], bool]] = itertools.cycle(
            [kill_everything, kill_snakemake, kill_one_job]
        )
        self.runs: list[Run] = []
        self.kills: list[str] = []
        self.resumed: set[int] = set()

    def finish(self, tree: Tree) -> None:
        """Bring the tree's workflow to its end."""
        while True:
            run = Run(tree, self.folder / f"run{len(self.runs)}.log")
            self.runs.append(run)
            before, hurt = len(list(tree.artefacts())), False
            while self._moment(run):
                way = next(self.ways)
                if way(run, self.chance):
                    self.kills.append(way.__name__)
                    hurt = True
                    self._look(tree)
                if run.process.poll() is not None:
                    break
            else:
                self._look(tree)
                if run.process.returncode == 0:
                    return
                assert hurt, run.log.read_text()
            progress = len(list(tree.artefacts())) > before
            self.span = 2.0 if progress else self.span * 1.5

    def _moment(self, run: Run) -> bool:
        """Wait for a random moment: while Snakemake plans, in some job, or soon after a checkpoint.

        Until a training has been resumed, only the last. False when the run ended by itself before, and
        when enough has been killed.
        """
        if self.resumed and len(self.kills) >= KILLS:
            run.process.wait()
            return False
        draw = self.chance.random()
        if draw < 0.3 or not self.resumed:
            return run.reaches(run.checkpoints) and run.lasts(self.chance.uniform(0, 0.1))
        if draw < 0.5:
            return run.lasts(self.chance.uniform(0, 2))
        return run.reaches(run.jobs) and run.lasts(self.chance.uniform(0, self.span))

    def _look(self, tree: Tree) -> None:
        assert broken_artefacts(tree.store) == []
        for log in tree.store.glob("logs/train/*.log"):
            self.resumed.update(int(step) for step in re.findall(r"resumed at step (\d+)", log.read_text()))

    def wait_for_orphans(self) -> None:
        while any(run.alive() for run in self.runs):
            time.sleep(0.1)

    def clean_up(self) -> None:
        for process in itertools.chain.from_iterable(run.alive() for run in self.runs):
            process.kill()


@pytest.fixture
def killer(tmp_path: Path) -> Iterator[Killer]:
    killer = Killer(tmp_path)
    yield killer
    killer.clean_up()


def contents(tree: Tree) -> dict[str, str]:
    """Return the sha256 of every result that must not depend on time, by its path."""
    found = {}
    for folder in tree.artefacts():
        for name, entry in read_manifest(folder)["files"].items():
            if name != "provenance.json":
                found[f"{folder.parent.name}/{folder.name}/{name}"] = entry["sha256"]
    suite = tree.store / "suites" / "tiny"
    files = [suite / name for name in ("summary.parquet", "reproduction.parquet", "claims.json")]
    files += [*(suite / "registry").iterdir(), *suite.glob("figures/accuracy_vs_fraction.*")]
    files += [tree.store / "claims.json", tree.store / "index.parquet"]
    return found | {str(path.relative_to(tree.store)): sha256_file(path) for path in files}


def values(tree: Tree) -> pd.DataFrame:
    """Return the metrics without what they cost."""
    return pd.read_parquet(tree.store / "metrics.parquet").drop(columns=list(COST_COLUMNS))


def test_killed_and_started_again(finished: Tree, killer: Killer, tmp_path: Path) -> None:
    expected = contents(finished)
    while len(killer.kills) < KILLS:
        tree = finished.copy(tmp_path / f"tree{len(killer.runs)}", results=False)
        killer.finish(tree)
        killer.wait_for_orphans()
        assert broken_artefacts(tree.store) == []
        assert contents(tree) == expected
        pd.testing.assert_frame_equal(values(tree), values(finished), check_exact=True)
    assert set(killer.kills) == {"kill_everything", "kill_snakemake", "kill_one_job"}
    assert max(killer.resumed, default=0) > 0, "no training was resumed from a checkpoint"
    print(f"{len(killer.kills)} kills in {len(killer.runs)} runs; resumed at steps {sorted(killer.resumed)}")
