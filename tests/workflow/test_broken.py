"""Full and read-only disks, damaged files, diverged training, wrong labels: one clear message each."""

from __future__ import annotations

import fcntl
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tree import REPOSITORY, Tree, broken_artefacts, make_tree

from winnow.canonical import sha256_file
from winnow.train.engine.loop import Loop

pytestmark = pytest.mark.slow

ByHand = Callable[..., tuple[int, str]]


@pytest.fixture
def tree(finished: Tree, tmp_path: Path) -> Tree:
    return finished.copy(tmp_path / "tree")


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> ByHand:
    """Run a stage's script in this process; returns its exit status and all that it printed."""

    def run(script: str, *words: str | Path) -> tuple[int, str]:
        path = REPOSITORY / "scripts" / f"{script}.py"
        monkeypatch.setattr("winnow.errors.leave", sys.exit)
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, words), "--device", "cpu"])
        capfd.readouterr()
        try:
            runpy.run_path(str(path), run_name="__main__")
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return status, "".join(capfd.readouterr())

    return run


def check_message(output: str, *parts: str) -> None:
    """The output tells of one error (Snakemake repeats it at the end) with these parts, and no traceback."""
    assert "Traceback" not in output, output
    errors = {line for line in output.splitlines() if line.startswith("error: ")}
    assert len(errors) == 1, output
    (error,) = errors
    for part in parts:
        assert part in error


def cannot(what: str) -> None:
    """Skip a test for want of a right, and fail where that would go unnoticed."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Mount something at a folder that is made for it."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        cannot(f"needs the right to mount (root): {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def small_disk(folder: Path, kilobytes: int) -> Any:
    return mounted(folder, "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs")


def edited_spec(folder: Path, **changes: Any) -> str:
    """Return an artefact's spec with some values changed."""
    return json.dumps(json.loads((folder / "spec.json").read_text()) | changes)


# -- disks --------------------------------------------------------------------------------------


def test_full_disk_at_every_write_of_prepare(finished: Tree, by_hand: ByHand, tmp_path: Path) -> None:
    """Disks from far too small to large enough: each write of the stage is the one that fails, once."""
    spec, statuses = finished.artefact("prepare", "digits") / "spec.json", []
    for kilobytes in range(96, 192, 4):
        with small_disk(tmp_path / "disk", kilobytes) as disk:
            final = disk / "demo" / "prepare" / "digits-00000000"
            status, output = by_hand("prepare", "--spec", spec, "--output", final)
            statuses.append(status)
            if status:
                check_message(output, "space")
                assert not final.exists()
                assert not list(disk.rglob("*.npy")), "what could not be finished fills the disk"
            else:
                assert broken_artefacts(disk / "demo") == []
    assert statuses[0] == 2
    assert statuses[-1] == 0
    assert statuses == sorted(statuses, reverse=True)


def test_full_disk_while_training(finished: Tree, by_hand: ByHand, tmp_path: Path) -> None:
    spec, statuses = edited_spec(finished.artefact("train", "digits-full-simclr-s0"), epochs=1), []
    for kilobytes in (4, 8, 16, 24, 32, 48, 64, 96, 512):
        with small_disk(tmp_path / "disk", kilobytes) as disk:
            final = disk / "demo" / "train" / "digits-00000000"
            status, output = by_hand("train", "--spec", spec, "--store", finished.store, "--output", final)
            statuses.append(status)
            if status:
                check_message(output, "the disk is full", "set `store` in config.yaml")
                assert not final.exists()
    assert statuses[0] == 2
    assert statuses[-1] == 0


def test_full_disk_in_the_workflow_and_the_same_command_with_more_space(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    (target,) = [o for rule, o in tree.planned() if rule == "train" and "full-simclr-s0" in o]
    with small_disk(tmp_path / "disk", 160) as disk:
        done = tree.snakemake("--config", f"store={disk}", target=target)
        assert done.returncode != 0
        check_message(done.stdout, "the disk is full")
        assert broken_artefacts(disk / "demo") == []
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        done = tree.snakemake("--config", f"store={disk}", target=target)
        assert done.returncode == 0, done.stdout
        assert broken_artefacts(disk / "demo") == []


def test_read_only_disk(finished: Tree, by_hand: ByHand, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    with small_disk(tmp_path / "disk", 4096) as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        done = tree.snakemake("--config", f"store={disk / 'results'}")
        assert done.returncode != 0
        check_message(done.stdout, f"{disk / 'results'}: the file system is read-only", "set `store`")
        spec = finished.artefact("prepare", "digits") / "spec.json"
        status, output = by_hand(
            "prepare", "--spec", spec, "--output", disk / "demo" / "prepare" / "x-00000000"
        )
        assert status == 2
        check_message(output, str(disk), "read-only", "set `store` in config.yaml to a writable folder")


def test_read_only_results_serve_a_finished_run_and_refuse_a_changed_one(tree: Tree) -> None:
    results = tree.root / "results"
    with mounted(results, "--bind", str(results)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(results)], check=True)
        done = tree.snakemake()
        assert done.returncode == 0, done.stdout
        tree.append("src/winnow/evaluate/linear_probe.py", "\nMORE = 1\n")
        done = tree.snakemake()
        assert done.returncode != 0
        assert "Traceback" not in done.stdout
        assert "Write-protected output files" in done.stdout
    assert broken_artefacts(tree.store) == []


# -- damaged files ------------------------------------------------------------------------------

# Consumer (script, part of its name), then the artefact (stage, part of its name) and file that is damaged.
DAMAGES = [
    ("train", "random-plain-f0.5-simclr-s0", "selection", "random-plain-s0", "s0/subset.parquet"),
    ("selection", "sas-paper-f0.5-s0", "signals", "latent_classes-s0", "s0/signal.npy"),
    ("selection", "sas-paper-f0.5-s0", "signals", "embeddings-s0", "s0/signal.npy"),
    ("signals", "latent_classes-s0", "signals", "embeddings-s0", "s0/signal.npy"),
    ("signals", "embeddings-s0", "train", "digits-proxy-simclr-s0", "s0/model.safetensors"),
    ("evaluate", "digits-full-simclr-linear_probe-s0", "train", "full-simclr-s0", "s0/model.safetensors"),
    ("evaluate", "digits-full-simclr-linear_probe-s0", "train", "full-simclr-s0", "spec.json"),
    ("train", "digits-full-simclr-s0", "prepare", "digits", "train_images.npy"),
    ("evaluate", "digits-full-simclr-linear_probe-s0", "prepare", "digits", "test_labels.npy"),
]


def damage(path: Path, how: str) -> None:
    """Flip one bit in the middle of a file, cut its end off, or delete it."""
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[:-1])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["flipped", "missing", "cut"])
@pytest.mark.parametrize(("script", "consumer", "stage", "part", "name"), DAMAGES)
def test_damaged_input(
    tree: Tree, by_hand: ByHand, script: str, consumer: str, stage: str, part: str, name: str, how: str
) -> None:
    folder, final = tree.artefact(stage, part), tree.artefact(script, consumer)
    damage(folder / name, how)
    status, output = by_hand(
        script, "--spec", final / "spec.json", "--output", tree.store / script / "again-00000000"
    )
    assert status == 2
    check_message(output, str(folder / name))
    assert not (tree.store / script / "again-00000000").exists()


@pytest.mark.parametrize(
    ("script", "words", "stage", "part", "name"),
    [
        (
            "collect",
            ["--output", "again.parquet"],
            "evaluate",
            "full-simclr-linear_probe-s0",
            "s0/metrics.json",
        ),
        (
            "collect",
            ["--output", "again.parquet"],
            "train",
            "random-plain-f0.5-simclr-s1",
            "provenance.json",
        ),
        ("export", ["--output", "again"], "selection", "sas-paper-f0.5-s1", "s1/subset.parquet"),
        ("export", ["--output", "again"], "selection", "random-plain-s1", "s1/facts.json"),
    ],
)
def test_damaged_input_of_a_table(
    tree: Tree, script: str, words: list[str], stage: str, part: str, name: str
) -> None:
    path = tree.artefact(stage, part) / name
    damage(path, "flipped")
    done = tree.script(script, "--suite", "tiny", *words)
    assert done.returncode == 2
    check_message(done.stdout, str(path.relative_to(tree.root)), "damaged", "run again")
    assert not (tree.root / "again.parquet").exists()


def test_a_cut_table_is_told(tree: Tree) -> None:
    path = tree.store / "suites" / "tiny" / "metrics.parquet"
    damage(path, "cut")
    done = tree.script("evidence", "--suite", "tiny", "--metrics", str(path), "--output", "again")
    assert done.returncode == 2
    check_message(done.stdout, str(path), "damaged", "run again")


def test_a_metric_that_no_data_have_is_told_with_its_place(tree: Tree) -> None:
    tree.replace("suites/tiny.yaml", "title: A suite for tests", "title: A suite for tests\nmetric: recall")
    done = tree.script("report", "--suite", "tiny", "--output", "report.html")
    assert done.returncode == 2
    check_message(done.stdout, "suites/tiny.yaml: metric: unknown metric 'recall'. Accepted: ")


def test_the_workflow_tells_of_damage_and_the_named_fix_mends_it(tree: Tree) -> None:
    folder, consumer = (
        tree.artefact("selection", "random-plain-s0"),
        tree.artefact("train", "random-plain-f0.5-simclr-s0"),
    )
    damage(folder / "s0" / "subset.parquet", "flipped")
    whole = (consumer / "s0" / "model.safetensors").read_bytes()
    shutil.rmtree(consumer)
    target = str(consumer.relative_to(tree.root))
    done = tree.snakemake(target=target)
    assert done.returncode != 0
    name = folder.relative_to(tree.root)
    check_message(done.stdout, f"{name}/s0/subset.parquet: damaged", f"Delete {name} and run again")
    assert not consumer.exists()
    shutil.rmtree(folder)
    done = tree.snakemake(target=target)
    assert done.returncode == 0, done.stdout
    assert (consumer / "s0" / "model.safetensors").read_bytes() == whole


# -- training that diverges, labels out of range ------------------------------------------------


def test_a_learning_rate_that_is_far_too_high(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    tree.replace("suites/tiny.yaml", "lr: 1.0e-3", "lr: 1.0e+30")
    (target,) = [o for rule, o in tree.planned() if rule == "train" and "full-simclr-s0" in o]
    done = tree.snakemake(target=target)
    assert done.returncode != 0
    check_message(
        done.stdout, "at step", "(learning rate 1e+30)", "last good checkpoint: ", "Lower the learning"
    )
    assert broken_artefacts(tree.store) == []
    assert not (tree.root / target).exists()


def test_a_label_out_of_range_stops_before_anything_uses_it(tmp_path: Path) -> None:
    tree, file = make_tree(tmp_path / "tree"), tmp_path / "mirror" / "odd" / "odd.npz"
    file.parent.mkdir(parents=True)
    labels = np.arange(40) % 4
    labels[13] = 4
    np.savez(file, x=np.zeros((40, 8, 8), np.uint8), y=labels, z=np.zeros((8, 8, 8), np.uint8), t=labels[:8])
    tree.append(
        "datasets.yaml",
        f"""
odd:
  title: A set with one wrong label
  kind: images
  licence: none
  homepage: https://example.org
  reader: npy
  options:
    splits:
      train: {{images: {{file: odd.npz, array: x}}, labels: {{file: odd.npz, array: y}}}}
      test: {{images: {{file: odd.npz, array: z}}, labels: {{file: odd.npz, array: t}}}}
  splits: {{train: 40, test: 8}}
  shape: [8, 8, 1]
  classes: [a, b, c, d]
  files:
    - {{name: odd.npz, urls: [], note: own, bytes: {file.stat().st_size}, sha256: {sha256_file(file)}}}
""",
    )
    tree.replace("suites/tiny.yaml", "digits: {}", "odd: {}")
    done = tree.snakemake("--config", f"mirror={tmp_path / 'mirror'}")
    assert done.returncode != 0
    check_message(done.stdout, "odd, split train, example 13: label 4 is out of range. Accepted: 0 to 3.")
    assert list(tree.artefacts()) == []
    quiet = tree.snakemake("--quiet", "rules", "host", "--config", f"mirror={tmp_path / 'mirror'}").stdout
    listed = quiet[quiet.index("1 job failed:\nresults/demo/logs/prepare/odd-") :]
    assert "\n    error: odd, split train, example 13: label 4 is out of range." in listed


# -- two at once --------------------------------------------------------------------------------


def test_two_builders_of_one_artefact_compute_it_once(finished: Tree, tmp_path: Path) -> None:
    """Both wait for a lock that the test holds, so that neither can be done before the other starts."""
    final = tmp_path / "demo" / "train" / "digits-00000000"
    lock = final.parent.parent / ".work" / "train" / f"{final.name}.lock"
    lock.parent.mkdir(parents=True)
    spec = edited_spec(finished.artefact("train", "digits-full-simclr-s0"), epochs=1)
    command = [sys.executable, "scripts/train.py", "--spec", spec, "--store", str(finished.store)]
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        processes = []
        for log in logs:
            with log.open("w") as output:
                processes.append(
                    subprocess.Popen(
                        [*command, "--output", str(final), "--device", "cpu"],
                        cwd=finished.root,
                        env=finished.environment(),
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        while not all("waiting for it" in log.read_text() for log in logs):
            assert all(process.poll() is None for process in processes), [log.read_text() for log in logs]
            time.sleep(0.1)
    assert [process.wait() for process in processes] == [0, 0]
    reused = ["already there" in log.read_text() for log in logs]
    trained = ["100%" in log.read_text() for log in logs]
    assert sorted(reused) == [False, True]
    assert trained == [not value for value in reused]
    assert broken_artefacts(tmp_path / "demo") == []


def test_a_second_run_of_the_workflow_is_refused_while_the_first_one_lives(tmp_path: Path) -> None:
    """And only then: a killed run's lock does not bind the next one."""
    tree = make_tree(tmp_path / "tree")
    (target,) = [o for rule, o in tree.planned() if rule == "prepare"]
    with (tmp_path / "first.log").open("w") as output:
        first = subprocess.Popen(
            tree.command(),
            cwd=tree.root,
            env=tree.environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while not list((tree.root / ".snakemake" / "locks").glob("*.lock")):
            assert first.poll() is None, (tmp_path / "first.log").read_text()
            time.sleep(0.05)
        second = tree.snakemake()
        assert second.returncode != 0
        assert "Directory cannot be locked" in second.stdout
        assert first.poll() is None
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert list((tree.root / ".snakemake" / "locks").glob("*.lock"))
    third = tree.snakemake(target=target)
    assert third.returncode == 0, third.stdout


# -- checkpoints --------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["none", "code", "spec"])
def test_only_the_same_spec_and_code_resume(
    finished: Tree, by_hand: ByHand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    trained = finished.artefact("train", "digits-full-simclr-s0")
    words = ["--store", finished.store, "--output", tmp_path / "train" / "digits-00000000"]
    step = Loop._step

    def broken(self: Loop, number: int, rows: Any) -> Any:
        if number == 5:
            raise KeyboardInterrupt
        return step(self, number, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", broken)
        patch.setattr(Loop, "_due", lambda self: True)
        stopped = by_hand("train", "--spec", edited_spec(trained, epochs=1), "--code", "a", *words)
        assert stopped[0] == 130 and stopped[1].endswith("stopped\n")
    spec = edited_spec(trained, epochs=2 if change == "spec" else 1)
    status, output = by_hand("train", "--spec", spec, "--code", "b" if change == "code" else "a", *words)
    assert status == 0
    assert ("resumed at step 5" in output) == (change == "none")
