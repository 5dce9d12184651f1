"""Where a plan's artefacts are in a shared store, and what one change touches in the largest plan."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plan_inputs import CONFIG, DATASETS, ROOT, change, read

from winnow.errors import UserError
from winnow.plan.plan import Plan, load_plan
from winnow.plan.shared import PLANS, join_store, needs, registered
from winnow.store import MANIFEST

SUITES = ["sas", "coresets", "pruning", "useful", "noise"]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone's plan files, in which the process stands as a run does."""
    root = tmp_path / "clone"
    (root / "suites").mkdir(parents=True)
    for name in (CONFIG, DATASETS, *(f"suites/{suite}.yaml" for suite in SUITES)):
        shutil.copy(ROOT / name, root / name)
    for name in ("WINNOW_MIRROR", "WINNOW_SETTINGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(root)
    return root


def plan(tree: Path, **settings: Any) -> Plan:
    return load_plan(read(tree / CONFIG) | settings, root=tree, check_sources=False)


def fill(found: Plan, keep: Callable[[str], bool]) -> None:
    """Put a folder in the place of each artefact that `keep` accepts."""
    for reference, place in found.places.items():
        if keep(reference):
            place.mkdir(parents=True)
            (place / MANIFEST).write_text("{}")


def links(found: Plan) -> dict[str, str]:
    paths = {reference: Path(found.path(reference)) for reference in found.graph.nodes}
    return {reference: os.readlink(path) for reference, path in paths.items() if path.is_symlink()}


# -- names and links ----------------------------------------------------------------------------


def test_without_a_shared_store_artefacts_are_in_the_clone(tree: Path) -> None:
    for store in ("results", str(tree / "results")):
        found = plan(tree, suites=["sas"], store=store)
        assert {str(place) for place in found.places.values()} == {found.path(r) for r in found.graph.nodes}


def test_names_follow_code_and_all_that_comes_before(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    before = plan(tree, suites=["sas"], store=str(store)).places
    code = Plan.code

    def other(self: Plan, stage: str, identity: str) -> str:
        return "other" if stage == "signals" else code(self, stage, identity)

    monkeypatch.setattr(Plan, "code", other)
    found = plan(tree, suites=["sas"], store=str(store))
    changed = {reference for reference, place in found.places.items() if place != before[reference]}
    graph, follows = found.graph.nodes, set[str]()
    for reference, node in graph.items():
        if reference.startswith("signals/") or follows & set(node.spec.inputs().values()):
            follows.add(reference)
    assert changed == follows
    assert {reference.split("/")[0] for reference in changed} == {"signals", "selection", "train", "evaluate"}
    assert 0 < len(changed) < len(graph)


def test_links_are_what_the_store_has(tree: Path, tmp_path: Path) -> None:
    found = plan(tree, suites=["sas"], store=str(tmp_path / "store"))
    fill(found, lambda reference: reference.startswith(("prepare/", "train/")))
    expected = {r: str(p) for r, p in found.places.items() if r.startswith(("prepare/", "train/"))}
    join_store(found, None, ["snakemake", "-n"])
    assert links(found) == expected
    gone = next(iter(expected))
    shutil.rmtree(found.places[gone])
    elsewhere = next(r for r in expected if r != gone)
    Path(found.path(elsewhere)).unlink()
    Path(found.path(elsewhere)).symlink_to(tmp_path / "other")
    join_store(found, None, ["snakemake", "-n"])
    assert links(found) == {r: p for r, p in expected.items() if r != gone}
    assert not (tmp_path / "store" / PLANS).exists(), "a dry run needs nothing"
    by_hand = Path(found.path(next(r for r in found.places if r.startswith("evaluate/"))))
    by_hand.parent.mkdir(parents=True, exist_ok=True)
    by_hand.symlink_to(tmp_path / "store")
    join_store(plan(tree, suites=["sas"]), None, ["snakemake", "-n"])
    assert set(links(found).values()) == {str(tmp_path / "store")}, "a store's links are not this clone's own"
    assert found.places[elsewhere].is_dir()


def test_a_live_run_s_links_and_those_of_its_jobs_stay(tree: Path, tmp_path: Path) -> None:
    found = plan(tree, suites=["sas"], store=str(tmp_path / "store"))
    fill(found, lambda reference: True)
    Path(".snakemake").mkdir()
    with Path(".snakemake/running").open("w") as running:
        join_store(found, running, ["snakemake", "all", "--mode", "subprocess"])
        assert links(found) == {}
        join_store(found, running, ["snakemake", "all"])
        assert len(links(found)) == len(found.places)
        assert [set(plan.needs) for plan in registered(tmp_path / "store")] == [set(needs(found))]


HOLD = """
import sys, time
from pathlib import Path
from winnow.plan.runlock import hold
running = hold(Path(".snakemake"))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_run_of_a_clone_is_refused(tree: Path, tmp_path: Path) -> None:
    """It may have no lock in common with the first, at another scale: nothing would say what it needs."""
    found = plan(tree, suites=["sas"], store=str(tmp_path / "store"))
    fill(found, lambda reference: True)
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout and first.stdout.readline() == "held\n"
        join_store(found, None, ["snakemake", "-n"])
        join_store(plan(tree, suites=["sas"]), None, ["snakemake", "all"])
        with pytest.raises(UserError, match="another run of this clone is alive"):
            join_store(found, None, ["snakemake", "all"])
        assert links(found) == {}
        first.kill()
    join_store(found, None, ["snakemake", "-n"])
    assert len(links(found)) == len(found.places)


def test_own_artefacts_are_not_mixed_with_a_store_s(tree: Path, tmp_path: Path) -> None:
    found = plan(tree, suites=["sas"], store=str(tmp_path / "store"))
    fill(found, lambda reference: True)
    Path(found.path(next(iter(found.places)))).mkdir(parents=True)
    with pytest.raises(UserError, match=r"was made in this clone, but .* names a shared `store`"):
        join_store(found, None, ["snakemake", "-n"])


def test_downloads_are_linked_or_this_clone_s_own(tree: Path, tmp_path: Path) -> None:
    found = plan(tree, scale="paper", suites=["sas"], store=str(tmp_path / "store"))
    own, *others = (file for dataset in found.datasets for file in found.downloads(dataset))
    for place in (place for dataset in found.datasets for place in found.download_places(dataset)):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("published")
    Path(own).parent.mkdir(parents=True)
    Path(own).write_text("published")
    join_store(found, None, ["snakemake", "-n"])
    assert not Path(own).is_symlink()
    assert others
    for name in others:
        assert os.readlink(name) == str(tmp_path / "store" / Path(name).relative_to("results"))


def test_a_plan_is_registered_once_per_clone_and_settings(tree: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for settings in ({}, {"device": "cpu"}, {"seeds": 6}):
        found = plan(tree, suites=["sas"], store=str(store), **settings)
        with Path("running").open("w") as running:
            join_store(found, running, ["snakemake", "all"])
    assert len(registered(store)) == 2
    file = registered(store)[0].file
    file.write_text(json.dumps({"needs": []}))
    with pytest.raises(UserError, match=f"{file}: not a plan's needs"):
        registered(store)


def test_another_clone_s_own_results_are_no_store(tree: Path, tmp_path: Path) -> None:
    """Clearing would take its artefacts, which no plan of the store has, for garbage."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "Snakefile").touch()
    for place in (other / "results", other / "results" / "deeper"):
        place.mkdir()
        with pytest.raises(UserError, match=f"store: '{place}' lies in the results of a clone"):
            plan(tree, suites=["sas"], store=str(place))
    plan(tree, suites=["sas"], store=str(other / "elsewhere"))


REGISTER = """
import json, sys
from pathlib import Path
from winnow.plan import shared
from winnow.plan.plan import load_plan
from winnow.plan.yamlfile import load_yaml
shared.ROOT = Path("/home/user/winnow")
values = load_yaml(Path("config.yaml")) | json.loads(sys.argv[1])
found = load_plan(values, root=Path.cwd(), check_sources=False)
with Path("running").open("w") as running:
    shared.join_store(found, running, ["snakemake", "all"])
"""


def test_clones_at_one_path_on_two_hosts_keep_what_both_need(tree: Path, tmp_path: Path) -> None:
    """Their settings are equal too; what they need differs, by their code for one."""
    store, second = tmp_path / "store", tmp_path / "second"
    shutil.copytree(tree, second)
    change(second / "suites" / "sas.yaml", "scales/demo/defaults/proxy/epochs", 21)
    for clone in (tree, tree, second):
        words = [sys.executable, "-c", REGISTER, json.dumps({"suites": ["sas"], "store": str(store)})]
        subprocess.run(words, cwd=clone, check=True)
    notes = registered(store)
    assert len(notes) == 2 and notes[0].needs != notes[1].needs
    assert {note.clone for note in notes} == {"/home/user/winnow"}


# -- one change in the largest plan -------------------------------------------------------------


@pytest.fixture(scope="module")
def largest() -> Plan:
    values = read(ROOT / CONFIG) | {"scale": "paper", "suites": SUITES}
    return load_plan(values, check_sources=False)


def after(tree: Path) -> set[str]:
    return set(plan(tree, scale="paper", suites=SUITES).graph.nodes)


def test_one_hyper_parameter_of_one_arm_touches_only_its_cells(tree: Path, largest: Plan) -> None:
    change(tree / "suites" / "useful.yaml", "arms/full_sam/training/trainer/params/rho", 0.07)
    listed = [cell for cell in largest.graph.cells["useful"] if cell.arm == "full_sam"]
    gone = set(largest.graph.nodes) - after(tree)
    assert gone == {cell.train for cell in listed} | {cell.evaluate for cell in listed}
    assert 0 < len(gone) < len(largest.graph.nodes) / 20


def test_one_setting_of_one_dataset_touches_only_its_jobs(tree: Path, largest: Plan) -> None:
    suite = read(tree / "suites" / "sas.yaml")
    dataset = next(iter(suite["scales"]["paper"]["datasets"]))
    own = {"evaluation": {"name": "linear_probe", "params": {"iterations": 77}}}
    change(tree / "suites" / "sas.yaml", f"scales/paper/datasets/{dataset}", own)
    gone = set(largest.graph.nodes) - after(tree)
    listed = [cell for cell in largest.graph.cells["sas"] if cell.dataset == dataset]
    assert gone == {cell.evaluate for cell in listed}
