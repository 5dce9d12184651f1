"""Several clones on one store: what one has made another uses, and neither harms the other."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest
from tree import STAGES, Tree, artefacts, broken_artefacts

from winnow.canonical import sha256_file
from winnow.locks import share_with_group
from winnow.store import building

pytestmark = pytest.mark.slow

METRICS = "results/demo/suites/tiny/metrics.parquet"
PLACES = """
import json, os
from winnow.plan.plan import load_plan
print(json.dumps({reference: str(place) for reference, place in load_plan().places.items()}))
"""


def clone(tree: Tree, root: Path, store: Path) -> Tree:
    """Return a clone of a tree that has run nothing yet, on a store."""
    made = tree.copy(root, results=False)
    line = next(line for line in (root / "config.yaml").read_text().splitlines() if line.startswith("store:"))
    made.replace("config.yaml", line, f"store: {store}")
    return made


def run(tree: Tree, *words: str) -> str:
    """Run the workflow as far as the suite's metrics, for which every artefact is read."""
    done = tree.snakemake(*words, target=METRICS)
    assert done.returncode == 0, done.stdout
    return done.stdout


def start(tree: Tree, log: Path, *words: str) -> subprocess.Popen[bytes]:
    with log.open("w") as output:
        return subprocess.Popen(
            tree.command(*words, target=METRICS),
            cwd=tree.root,
            env=tree.environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def places(tree: Tree) -> dict[str, Path]:
    """Return where the plan of a clone has each artefact in the store."""
    done = subprocess.run(
        [sys.executable, "-c", PLACES],
        cwd=tree.root,
        env=tree.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return {reference: Path(place) for reference, place in json.loads(done.stdout).items()}


def stages(jobs: set[tuple[str, str]]) -> set[str]:
    return {rule for rule, _ in jobs if rule in STAGES}


def state(store: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of last change of every file of every artefact."""
    files = (path for folder in artefacts(store / "demo") for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def logs(tree: Tree) -> dict[str, str]:
    """Return the logs of a clone's artefact jobs by `<stage>/<id>`."""
    folder = tree.store / "logs"
    return {
        f"{stage}/{path.stem}": path.read_text()
        for stage in STAGES
        for path in (folder / stage).glob("*.log")
    }


def reused(log: str) -> bool:
    return "already there" in log


@contextmanager
def held(place: Path) -> Iterator[None]:
    """Hold the lock of one artefact, as a process does that builds it."""
    lock = place.parent.parent / ".work" / place.parent.name / f"{place.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def wait_for(sign: Callable[[], object], *processes: subprocess.Popen[bytes]) -> None:
    while not sign():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)


@pytest.fixture(scope="module")
def first(finished: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A clone on a store, `store` beside it, that holds all that it needs. Change neither."""
    root = tmp_path_factory.mktemp("lab")
    tree = clone(finished, root / "clone", root / "store")
    for reference, place in places(tree).items():
        shutil.copytree(finished.store / reference, place)
    run(tree)
    return tree


@pytest.fixture
def store(first: Tree) -> Path:
    return first.root.parent / "store"


@pytest.fixture
def own_store(store: Path, tmp_path: Path) -> Path:
    """A copy of the finished store that a test may change."""
    return Path(shutil.copytree(store, tmp_path / "store"))


# -- reuse --------------------------------------------------------------------------------------


def test_a_fresh_clone_uses_all_that_is_there(first: Tree, store: Path, tmp_path: Path) -> None:
    before, second = state(store), clone(first, tmp_path / "second", store)
    assert len(before) > 100
    jobs = second.planned()
    assert stages(jobs) == set() and "collect" in {rule for rule, _ in jobs}
    done = second.snakemake()
    assert done.returncode == 0, done.stdout
    assert logs(second) == logs(first) == {}, "an artefact job ran"
    assert state(store) == before
    tables = [pd.read_parquet(tree.root / METRICS) for tree in (first, second)]
    pd.testing.assert_frame_equal(*tables)
    assert second.planned() == set()
    assert "Nothing to be done" in run(first), "the second clone's run is no reason for the first one to run"


def test_only_what_is_missing_is_computed(first: Tree, own_store: Path, tmp_path: Path) -> None:
    before, second = state(own_store), clone(first, tmp_path / "second", own_store)
    run(second, "--config", "seeds=3")
    made = logs(second)
    assert {name.split("/")[0] for name in made} == {"train", "signals", "selection", "evaluate"}
    assert all("-s2-" in name for name in made)
    after = state(own_store)
    assert before.items() <= after.items()
    assert {path.split("/demo/")[1].split("/")[0] for path in after.keys() - before.keys()} == {
        name.split("/")[0] for name in made
    }


def test_two_at_once_compute_every_cell_once(first: Tree, tmp_path: Path) -> None:
    """Both wait for one lock first, so that both have planned everything before either has done anything."""
    store = tmp_path / "store"
    clones = [clone(first, tmp_path / name, store) for name in ("a", "b")]
    (data,) = (place for name, place in places(clones[0]).items() if name.startswith("prepare/"))
    with held(data):
        processes = [start(tree, tree.root / "run.log", "--config", "seeds=1") for tree in clones]
        wait_for(
            lambda: all(any("waiting for it" in log for log in logs(tree).values()) for tree in clones),
            *processes,
        )
    for tree, process in zip(clones, processes, strict=True):
        assert process.wait() == 0, (tree.root / "run.log").read_text()
    found = [logs(tree) for tree in clones]
    assert set(found[0]) == set(found[1]) == {name for name in places(clones[0]) if "-s1-" not in name}
    assert all(reused(found[0][name]) != reused(found[1][name]) for name in found[0])
    assert broken_artefacts(store / "demo") == []
    pd.testing.assert_frame_equal(*(pd.read_parquet(tree.root / METRICS) for tree in clones))
    for tree in clones:
        assert "Nothing to be done" in run(tree, "--config", "seeds=1")


# -- code ---------------------------------------------------------------------------------------


def test_clones_with_different_code_stand_side_by_side(first: Tree, own_store: Path, tmp_path: Path) -> None:
    one, other = (clone(first, tmp_path / name, own_store) for name in ("one", "other"))
    run(one)
    before = state(own_store)
    other.append("src/winnow/select/sas.py", "\nMORE = 1\n")
    planned = {(rule, output) for rule, output in other.planned() if rule in STAGES}
    assert {rule for rule, _ in planned} == {"selection", "train", "evaluate"}
    assert all("-sas-" in output for _, output in planned)
    run(other)
    assert before.items() <= state(own_store).items(), "the other clone's artefacts were touched"
    for tree, code in ((one, "before"), (other, "after")):
        assert "Nothing to be done" in run(tree), code
    links = [tree.artefact("selection", "-sas-paper-f0.5-s0-").resolve() for tree in (one, other)]
    assert links[0] != links[1]
    identities = [json.loads((link / "manifest.json").read_text())["identity"] for link in links]
    assert identities[0]["code"] != identities[1]["code"]
    assert identities[0]["spec"] == identities[1]["spec"]


def test_a_clone_follows_its_code_back_and_forth(first: Tree, own_store: Path, tmp_path: Path) -> None:
    tree = clone(first, tmp_path / "tree", own_store)
    run(tree)
    tree.append("src/winnow/select/sas.py", "\nMORE = 1\n")
    assert stages(tree.planned()) == {"selection", "train", "evaluate"}
    tree.replace("src/winnow/select/sas.py", "\nMORE = 1\n", "")
    assert stages(tree.planned()) == set()
    tree.append("src/winnow/select/sas.py", "\n# A comment.\n")
    assert stages(tree.planned()) == set()


def test_a_job_refuses_code_that_changed_after_planning(first: Tree, tmp_path: Path) -> None:
    """Or its artefact would be named, and reused by others, as made by the code of the plan."""
    tree = first.copy(tmp_path / "tree", results=False)
    ask = "from winnow.plan.plan import load_plan; p = load_plan(); n = next(iter(p.graph.nodes.values()));"
    say = "import json; print(json.dumps([n.text, p.code_with_plugins('prepare', n.id)]))"
    asked = subprocess.run(
        [sys.executable, "-c", ask + say],
        cwd=tree.root,
        env=tree.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    spec, code = json.loads(asked.stdout)
    words = ["--spec", spec, "--code", code, "--output"]
    tree.append("src/winnow/data/readers/bundled.py", "\n# A comment.\n")
    done = tree.script("prepare", *words, str(tmp_path / "demo/prepare/a"), WINNOW_SOURCES="as planned")
    assert done.returncode == 0, done.stdout
    tree.append("src/winnow/data/readers/bundled.py", "\nMORE = 1\n")
    done = tree.script("prepare", *words, str(tmp_path / "demo/prepare/b"), WINNOW_SOURCES="as planned")
    assert done.returncode == 2
    assert "error: scripts/prepare.py: its code has changed since this run began" in done.stdout
    assert not (tmp_path / "demo/prepare/b").exists()


# -- what Snakemake deletes ---------------------------------------------------------------------


def test_a_killed_job_does_not_take_another_clone_s_artefact_with_it(
    first: Tree, store: Path, tmp_path: Path
) -> None:
    """The clone's job waits for the lock while another process finishes the artefact, and is then killed."""
    empty = tmp_path / "store"
    tree = clone(first, tmp_path / "tree", empty)
    (place,) = (p for name, p in places(tree).items() if name.startswith("prepare/"))
    (link,) = (o for rule, o in tree.planned() if rule == "prepare")
    with held(place):
        process = start(tree, tmp_path / "run.log", "--until", "prepare")
        wait_for(lambda: any("waiting for it" in log for log in logs(tree).values()), process)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(store / "demo" / "prepare" / place.name, place)
        for child in psutil.Process(process.pid).children(recursive=True):
            if any(word.startswith("scripts/") for word in child.cmdline()):
                child.send_signal(signal.SIGKILL)
        assert process.wait() != 0
    assert broken_artefacts(empty / "demo") == []
    assert place.is_dir()
    assert not (tree.root / link).is_symlink()
    assert stages(tree.planned("--until", "prepare")) == set(), "the artefact is used by the next run"


def test_a_forced_job_takes_what_is_there(first: Tree, store: Path, tmp_path: Path) -> None:
    """Snakemake deletes the outputs of a job that it is told to run again: here, the clone's links."""
    before, tree = state(store), clone(first, tmp_path / "tree", store)
    run(tree)
    run(tree, "--forcerun", "prepare", "signals")
    assert state(store) == before
    assert set(map(reused, logs(tree).values())) == {True}


# -- moving to a store and away -----------------------------------------------------------------


def test_a_clone_s_own_artefacts_are_not_mixed_with_a_store_s(
    finished: Tree, first: Tree, store: Path, tmp_path: Path
) -> None:
    tree = finished.copy(tmp_path / "tree")
    done = tree.snakemake("--config", f"store={store}")
    assert done.returncode != 0
    assert "was made in this clone, but config.yaml names a shared `store`. Move results away" in done.stdout
    shutil.rmtree(tree.root / "results")
    run(tree, "--config", f"store={store}")
    everything = tree.planned("--forceall")
    assert stages(tree.planned("--config", "store=results")) == stages(everything), "links were left"
    assert stages(tree.planned("--config", f"store={store}")) == set()


# -- damage -------------------------------------------------------------------------------------


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    path.unlink()
    if how == "flipped":
        content[len(content) // 2] ^= 1
    if how != "missing":
        path.write_bytes(content[: len(content) // 2] if how == "cut" else content)


VICTIMS = {
    "flipped": ("selection", "random-plain-s0", "s0/subset.parquet"),
    "cut": ("train", "random-plain-f0.5-simclr-s1", "s1/model.safetensors"),
    "missing": ("prepare", "digits", "train_labels.npy"),
}


@pytest.mark.parametrize("shared", [True, False])
def test_damage_is_found_removed_and_made_again(
    finished: Tree, first: Tree, own_store: Path, tmp_path: Path, shared: bool
) -> None:
    """On a shared store only the damaged are made again: what follows is still there."""
    tree = clone(first, tmp_path / "tree", own_store) if shared else finished.copy(tmp_path / "tree")
    if shared:
        run(tree)
    assert tree.script("check").returncode == 0
    expected, folders = {}, []
    for how, (stage, part, name) in VICTIMS.items():
        folder = tree.artefact(stage, part)
        folders.append(folder.resolve())
        expected[folder / name] = (folder / name).read_bytes()
        damage(folder / name, how)
    found = tree.script("check")
    assert found.returncode == 1
    lines = [line for line in found.stdout.splitlines() if line.startswith("damaged: ")]
    assert len(lines) == 3
    for folder in folders:
        assert sum(folder.name in line for line in lines) == 1
    assert "Nothing to be done" in run(tree), "finding changes nothing"
    removed = tree.script("check", "--remove")
    assert removed.returncode == 0, removed.stdout
    assert "3 removed" in removed.stdout
    assert not any(folder.exists() for folder in folders)
    run(tree)
    if shared:
        made = {name for name, log in logs(tree).items() if not reused(log)}
        assert made == {f"{path.parent.name}/{path.name[:-17]}" for path in folders}
    assert {path: path.read_bytes() for path in expected} == expected
    assert tree.script("check").returncode == 0
    assert "Nothing to be done" in run(tree)


def test_an_input_with_other_content_is_refused_and_found(
    first: Tree, own_store: Path, tmp_path: Path
) -> None:
    """As when something is made again on a device whose results differ in the last digit."""
    tree = clone(first, tmp_path / "tree", own_store)
    run(tree)
    folder = tree.artefact("selection", "random-plain-s0").resolve()
    manifest = json.loads((folder / "manifest.json").read_text())
    facts = folder / "s0" / "facts.json"
    facts.write_text(facts.read_text() + "\n")
    entry = {
        "bytes": facts.stat().st_size,
        "sha256": sha256_file(facts),
    }
    manifest["files"]["s0/facts.json"] = entry
    (folder / "manifest.json").write_text(json.dumps(manifest))
    done = tree.script("collect", "--suite", "tiny", "--output", "again.parquet")
    assert done.returncode == 2
    assert "made from another inputs than the present" in done.stdout
    found = tree.script("check", "--remove")
    assert "1 removed" in found.stdout, found.stdout
    run(tree)
    assert tree.script("check").returncode == 0


# -- clearing -----------------------------------------------------------------------------------


def listed(tree: Tree, *words: str) -> dict[str, set[str]]:
    """Return what clearing lists, by kind; the names without the digests of a store."""
    done = tree.script("garbage", *words)
    assert done.returncode == 0, done.stdout
    found: dict[str, set[str]] = {}
    for line in done.stdout.splitlines()[1:]:
        if not line:
            break
        kind, _, _, path = line.split(maxsplit=3)
        found.setdefault(kind, set()).add(path)
    return found


def test_clearing_keeps_what_a_plan_needs(finished: Tree, tmp_path: Path) -> None:
    tree = finished.copy(tmp_path / "tree")
    assert listed(tree) == {}
    tree.replace("suites/tiny.yaml", "seeds: 2\n", "seeds: 1\n")
    before = {str(path) for path in artefacts(tree.store)}
    found = listed(tree)
    assert set(found) == {"artefact", "log", "benchmark"}
    assert {path for path in found["artefact"] if "-s1-" not in path} == set()
    assert len(found["artefact"]) == len([path for path in before if "-s1-" in path]) > 5
    assert {str(path) for path in artefacts(tree.store)} == before, "a dry run deletes nothing"
    assert listed(tree, "--plan", "config.yaml", "--plan", '{"seeds": 2}') == {}
    assert listed(tree, "--scale", "small") == {}, "another scale has nothing yet"
    tree.script("garbage", "--delete")
    assert listed(tree) == {}
    assert {str(path) for path in artefacts(tree.store)} == {path for path in before if "-s1-" not in path}
    assert stages(tree.planned()) == set()


def test_clearing_other_leftovers(finished: Tree, tmp_path: Path) -> None:
    """Checkpoints of what is done or not planned, old downloads; not live work, nor what links point to."""
    tree = finished.copy(tmp_path / "tree")
    keep, work = tree.artefact("train", "full-simclr-s0"), tree.store / ".work" / "train"
    for name in ("gone-s0-00000000", keep.name, "live-s0-00000000"):
        (work / name / "checkpoints").mkdir(parents=True)
        (work / name / "checkpoints" / "s0.safetensors").write_bytes(b"0" * 100)
    shutil.rmtree(tree.artefact("train", "full-simclr-s1"))
    resumed = work / next(name for name in names(tree, "train") if "full-simclr-s1" in name)
    (resumed / "checkpoints").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (tree.store / "selection" / "link-s0-00000000").symlink_to(outside)
    shutil.rmtree(tree.store / "signals")
    (tree.store / "signals").symlink_to(outside)
    data = tree.root / "results" / "data" / "cifar10"
    (data / "quarantine").mkdir(parents=True)
    (data / "cifar-10-binary.tar.gz").write_bytes(b"0" * 10)
    with held(tree.store / "train" / "live-s0-00000000"):
        found = listed(tree)
        assert found["unfinished"] == {
            f"results/demo/.work/train/{name}" for name in ("gone-s0-00000000", keep.name, "live-s0-00000000")
        }
        assert found["artefact"] == {"results/demo/selection/link-s0-00000000"}
        assert found["download"] == {
            "results/data/cifar10/quarantine",
            "results/data/cifar10/cifar-10-binary.tar.gz",
        }
        done = tree.script("garbage", "--delete")
        assert "at work: results/demo/.work/train/live-s0-00000000" in done.stdout
    assert (outside / "precious").read_text() == "mine"
    assert not (tree.store / "selection" / "link-s0-00000000").is_symlink()
    assert (work / "live-s0-00000000" / "checkpoints" / "s0.safetensors").exists()
    assert (resumed / "checkpoints").is_dir()
    assert not (work / "gone-s0-00000000").exists()
    assert keep.is_dir() and not (work / keep.name).exists()
    assert list(data.iterdir()) == [data / ".work"]


def names(tree: Tree, stage: str) -> set[str]:
    return {name.split("/")[1] for name in places(tree) if name.startswith(f"{stage}/")}


def test_clearing_waits_for_no_run_but_refuses_beside_one(finished: Tree, tmp_path: Path) -> None:
    tree = finished.copy(tmp_path / "tree")
    with (tree.root / ".snakemake" / "running").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert tree.script("garbage").returncode == 0
        done = tree.script("garbage", "--delete")
    assert done.returncode == 2
    assert "a run of this clone is alive" in done.stdout


def test_clearing_a_store_keeps_what_other_clones_run(first: Tree, own_store: Path, tmp_path: Path) -> None:
    shutil.rmtree(own_store / "plans")
    one, other = (clone(first, tmp_path / name, own_store) for name in ("one", "other"))
    other.append("src/winnow/select/sas.py", "\nMORE = 1\n")
    run(one)
    run(other)
    before = state(own_store)
    assert listed(one) == {} and listed(other) == {}
    (mine,) = (
        file
        for file in (own_store / "plans").glob("*.json")
        if json.loads(file.read_text())["clone"] == str(other.root)
    )
    mine.unlink()
    found = listed(one)
    assert set(found) == {"artefact", "lock"} or set(found) == {"artefact"}
    assert all("-sas-" in path for path in found["artefact"])
    done = one.script("garbage", "--delete")
    assert str(one.root) in done.stdout, "the plans that are kept are named"
    after = state(own_store)
    assert after.items() <= before.items() and len(after) < len(before)
    assert "Nothing to be done" in run(one)
    assert stages(other.planned()) == {"selection", "train", "evaluate"}


# -- users --------------------------------------------------------------------------------------


def as_user(user: int, store: Path, spec: str) -> int:
    """Build an artefact as another user; returns 0, 1 where it was there, 2 for an error."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            os.setgroups([])
            os.setgid(4000)
            os.setuid(user)
            os.umask(0o077)
            share_with_group(store)
            with building(store / "demo" / "train" / "x-00000000", {"spec": spec}) as artefact:
                if artefact is not None:
                    (artefact.folder(0) / "model").write_bytes(b"weights")
                status = int(artefact is None)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to act as other users (root)")
def test_two_users_of_one_group_use_and_replace_each_other_s_artefacts() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        shutil.chown(store, 4001, 4000)
        store.chmod(0o2770)
        assert as_user(4001, store, "one") == 0
        assert as_user(4002, store, "one") == 1, "reused by the second user"
        assert as_user(4002, store, "two") == 0, "replaced by the second user"
        assert as_user(4001, store, "two") == 1
        assert all(path.stat().st_gid == 4000 for path in store.rglob("*"))
