"""A small copy of the repository in which the tests run, break and edit the workflow."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from winnow.errors import UserError
from winnow.store import verified

REPOSITORY = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
STAGES = ("prepare", "train", "signals", "selection", "evaluate")

SUITE = """\
name: tiny
title: A suite for tests
question: Does the workflow keep its promises?
source: {paper: "none"}
arms:
  full: {label: full data, role: reference, method: full}
  random: {label: random, role: control, method: random}
  sas: {label: SAS, role: method, method: sas, variant: paper, params: {augment_views: 0}}
scales:
  demo:
    defaults:
      fractions: {epochs: [0.5]}
      seeds: 2
      seeds_per_job: 1
      proxy: &digits
        trainer:
          name: simclr
          params: {precision: fp32, lr: 1.0e-3, weight_decay: 1.0e-4, projection: 16}
        model: {name: convnet, params: {depth: 2, width: 8, norm: batch}}
        epochs: 30
        batch_size: 128
      training: *digits
      evaluation: {name: linear_probe, params: {iterations: 20}}
      signals:
        embeddings: {augment: {crop_min: 0.6, flip: false, colour: 0, greyscale: 0}}
    datasets:
      digits: {}
figures:
  - figure: accuracy_vs_fraction
  - figure: accuracy_vs_cost
claims:
  - id: beats_random
    statement: SAS subsets beat random subsets of the same size.
    source: this test
    made_at: demo
    kind: superiority
    metric: test_accuracy
    arm: sas
    baseline: random
    margin: 0.0
"""


@dataclass(frozen=True)
class Tree:
    """A copy of the repository whose only suite is `tiny`."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / "results" / "demo"

    @property
    def suite(self) -> Path:
        return self.root / "suites" / "tiny.yaml"

    def command(self, *words: str, target: str = "all") -> list[str]:
        """Return the command that a user gives."""
        return [str(SNAKEMAKE), target, "--cores", "2", *words]

    def environment(self, **more: str) -> dict[str, str]:
        """Return this process's environment without what steers Winnow, and with `more`."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("WINNOW_", "SNAKEMAKE_"))}
        return kept | {"PYTHONPATH": str(self.root / "src")} | more

    def snakemake(
        self, *words: str, target: str = "all", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the workflow in this tree; stdout and stderr come back together."""
        return self._run(self.command(*words, target=target), **environment)

    def script(self, name: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one of the stage scripts by hand in this tree."""
        return self._run([sys.executable, f"scripts/{name}.py", *words], **environment)

    def _run(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def planned(self, *words: str, **environment: str) -> set[tuple[str, str]]:
        """Return (rule, first output) of each job that would run now, target rules left out."""
        done = self.snakemake("--dry-run", *words, **environment)
        assert done.returncode == 0, done.stdout
        blocks = re.split(r"^(?=(?:local)?rule \w+:$)", done.stdout, flags=re.MULTILINE)[1:]
        found = set()
        for block in blocks:
            rule = re.match(r"(?:local)?rule (\w+):", block)
            output = re.search(r"^    output: ([^,\n]+)", block, flags=re.MULTILINE)
            if rule and output:
                found.add((rule[1], output[1]))
        return found

    def replace(self, path: str, old: str, new: str) -> None:
        """Edit one file; the old text must be there exactly once."""
        file = self.root / path
        text = file.read_text()
        assert text.count(old) == 1, f"{path} holds {text.count(old)} times: {old}"
        file.write_text(text.replace(old, new))

    def append(self, path: str, text: str) -> None:
        """Add text to the end of one file."""
        with (self.root / path).open("a") as file:
            file.write(text)

    def artefact(self, stage: str, part: str) -> Path:
        """Return the one artefact of a stage whose name contains `part`."""
        (found,) = (path for path in (self.store / stage).iterdir() if part in path.name)
        return found

    def artefacts(self) -> Iterator[Path]:
        """Yield every folder that stands under an artefact's final name."""
        return artefacts(self.store)

    def copy(self, root: Path, *, results: bool = True) -> Tree:
        """Return a copy of the tree, times of last change included, with or without what it has made."""
        made = shutil.ignore_patterns("results", ".snakemake")
        shutil.copytree(self.root, root, symlinks=True, ignore=None if results else made)
        return Tree(root)


def make_tree(root: Path, suite: str = SUITE) -> Tree:
    """Copy the repository and give the copy one tiny suite, to be run on the processor."""
    tree = copy_repository(root)
    shutil.rmtree(root / "suites")
    (root / "suites").mkdir()
    tree.suite.write_text(suite)
    (listed,) = re.findall(r"^suites: \[.*\]$", (root / "config.yaml").read_text(), flags=re.MULTILINE)
    tree.replace("config.yaml", listed, "suites: [tiny]")
    tree.replace("config.yaml", "device: auto", "device: cpu")
    return tree


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Tree:
    """Return a tree that one of the processes that share the tests builds, while the others wait for it."""
    base = factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name / "tree"
    root.parent.mkdir(exist_ok=True)
    done = root.parent / "done"
    with (root.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(root, ignore_errors=True)
            build(root)
            done.touch()
    return Tree(root)


def copy_repository(root: Path) -> Tree:
    """Copy the repository's files (tracked, or new and not ignored), without tests."""
    listed = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files", "-co", "--exclude-standard", "-z"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        source, target = REPOSITORY / name, root / name
        if source.is_file() and not name.startswith("tests/"):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return Tree(root)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return an artefact's manifest."""
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


def artefacts(store: Path) -> Iterator[Path]:
    """Yield every folder of a store that stands under an artefact's final name."""
    for stage in STAGES:
        folder = store / stage
        yield from sorted(folder.iterdir()) if folder.is_dir() else ()


def broken_artefacts(store: Path) -> list[str]:
    """Return what is wrong with the folders under final names: each must be whole, with nothing added."""
    wrong = []
    for folder in artefacts(store):
        try:
            listed = set(read_manifest(folder)["files"])
            for name in listed:
                verified(folder, name)
        except (OSError, ValueError, UserError) as error:
            wrong.append(f"{folder}: {error}")
            continue
        present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        extra = present - listed - {"manifest.json", ".snakemake_timestamp"}
        wrong += [f"{folder / name}: not in the manifest" for name in extra]
    return wrong
