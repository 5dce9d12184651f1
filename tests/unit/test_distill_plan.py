"""Mistakes in suites that distil are told when the work is planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from winnow.errors import UserError
from winnow.plan.plan import Plan, load_plan
from winnow.plan.specs import DistillSpec, TrainSpec

ROOT = Path(__file__).parents[2]


def planned(tmp_path: Path, suite: str, **changes: Any) -> Plan:
    """Plan a suite at demo with keys changed: `a__b` is key b of a."""
    data = yaml.safe_load((ROOT / "suites" / f"{suite}.yaml").read_text())
    data["scales"] = {"demo": data["scales"]["demo"]}
    data |= {"claims": [], "reproduction": [], "figures": []}
    used = data["scales"]["demo"]["defaults"].get("arms", list(data["arms"]))
    data["arms"] = {name: arm for name, arm in data["arms"].items() if name in used}
    for path, value in changes.items():
        *parents, last = path.replace("scale__", "scales__demo__defaults__").split("__")
        place = data
        for name in parents:
            place = place[name]
        place[last] = value
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / f"{suite}.yaml").write_text(yaml.safe_dump(data))
    (tmp_path / "datasets.yaml").write_text((ROOT / "datasets.yaml").read_text())
    settings = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"suites": [suite], "scale": "demo"}
    return load_plan(settings, tmp_path)


def test_the_demos_can_be_planned(tmp_path: Path) -> None:
    plan = planned(tmp_path, "mkdt")
    made = [node.spec for node in plan.graph.nodes.values() if isinstance(node.spec, DistillSpec)]
    assert {spec.variant for spec in made} == {"paper", "released"}
    for spec in made:
        assert "targets" in spec.uses and ("expert0" in spec.uses) == (spec.method.name == "mkdt")


def test_arms_that_need_no_teacher_do_not_wait_for_it(tmp_path: Path) -> None:
    plan = planned(tmp_path, "mkdt")
    cells = {cell.arm: cell for cell in plan.graph.cells["mkdt"]}
    for arm, upstream in (("no_pretraining", {"selection"}), ("random", {"selection", "train", "signals"})):
        assert {reference.split("/")[0] for reference in cells[arm].upstream} == upstream
    spec = plan.graph.nodes[cells["mkdt"].train].spec
    assert isinstance(spec, TrainSpec) and spec.synthetic and spec.targets is None
    trained = [reference for reference in cells["mkdt"].upstream if reference.startswith("train/")]
    assert len(trained) == 2, "teacher and experts count as cost"


def test_a_set_is_made_for_the_scales_model_with_the_arms_changes(tmp_path: Path) -> None:
    plan = planned(tmp_path, "mkdt", arms__krr_st__student={"params": {"norm": "batch"}})
    nodes, cells = plan.graph.nodes, {cell.arm: cell for cell in plan.graph.cells["mkdt"]}
    norms = {}
    for arm in ("mkdt", "krr_st"):
        made, trained = nodes[cells[arm].synthetic].spec, nodes[cells[arm].train].spec
        assert isinstance(made, DistillSpec) and isinstance(trained, TrainSpec)
        assert made.model.params["depth"] == trained.model.params["depth"] == 2
        norms[arm] = made.model.params["norm"], trained.model.params["norm"]
    assert norms == {"mkdt": ("instance", "instance"), "krr_st": ("batch", "instance")}


def test_a_teacher_is_asked_about_images_that_are_moved(tmp_path: Path) -> None:
    """The one whose answers the targets are, which counts once; not where images stay as they are."""
    for folder, changes in (("moved", {}), ("still", {"crop": 0, "flip": False})):
        (tmp_path / folder).mkdir()
        plan = planned(tmp_path / folder, "mkdt", arms__krr_st__params=changes)
        cell = next(cell for cell in plan.graph.cells["mkdt"] if cell.arm == "krr_st")
        made = plan.graph.nodes[cell.synthetic].spec
        assert isinstance(made, DistillSpec)
        trained = [reference for reference in cell.upstream if reference.startswith("train/")]
        assert len(trained) == 1
        assert made.uses.get("model0") == (trained[0] if folder == "moved" else None)


@pytest.mark.parametrize(
    ("suite", "changes", "message"),
    [
        ("mkdt", {"arms__mkdt__method": "dm", "arms__mkdt__variant": "default"}, "distils labels"),
        ("mkdt", {"scale__targets": {"name": "embeddings"}}, "comparable with 'representations' alone"),
        ("mkdt", {"scale__evaluation": {"name": "accuracy"}}, "reads predicted classes"),
        ("mkdt", {"scale__targets": {"name": "expert_losses"}}, "made by experts"),
        ("mkdt", {"scale__training__trainer": {"name": "supervised"}}, "real images with labels only"),
        ("distillation", {"scale__experts": None}, "needs expert trajectories"),
        ("distillation", {"scale__experts__trainer": {"name": "distilled"}}, "keeps no trajectories"),
        ("distillation", {"scale__training__trainer": {"name": "experts"}}, "writes no model"),
        ("distillation", {"scale__experts__model": {"name": "mlp"}}, "the same network"),
        ("distillation", {"arms__herding__start": {"method": "random"}}, "makes no examples"),
        ("distillation", {"arms__herding__student": {"name": "mlp"}}, "student: .*makes no examples"),
        ("distillation", {"arms__dm__student": {"name": "convmet"}}, "arms.dm.student.*convmet"),
        ("distillation", {"arms__dm__student": {"params": {"dept": 2}}}, "arms.dm.student.*dept"),
        ("distillation", {"arms__dm__student": {"nam": "mlp"}}, "arms.dm: student: unknown key .nam"),
        ("mkdt", {"arms__mkdt__student": {"params": {"norm": "batch"}}}, "the arm no `student`"),
        ("distillation", {"arms__dm__start": {"method": "full"}}, "chooses no subset"),
        ("distillation", {"arms__dm__start": {"method": "useful"}}, "chooses no subset"),
        ("distillation", {"scale__methods__mkdt": {}}, "method"),
        ("distillation", {"scale__inputs": "zca"}, "asks a proxy, which sees plain images"),
    ],
)
def test_mistakes_are_told_when_planning(
    tmp_path: Path, suite: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        planned(tmp_path, suite, **changes)


def test_teachers_are_the_arms_own_proxies_and_count_as_cost(tmp_path: Path) -> None:
    plan = planned(tmp_path, "distillation")
    nodes, cells = plan.graph.nodes, {cell.arm: cell for cell in plan.graph.cells["distillation"]}
    teachers = {}
    for arm in ("stratified_taught", "rded", "sre2l"):
        spec = nodes[cells[arm].train].spec
        assert isinstance(spec, TrainSpec) and spec.teacher is not None
        assert spec.teacher in cells[arm].upstream
        teachers[arm] = spec.teacher
        made = None if cells[arm].synthetic is None else nodes[cells[arm].synthetic].spec
        assert made is None or (isinstance(made, DistillSpec) and made.uses["model0"] == spec.teacher)
    assert teachers["stratified_taught"] == teachers["rded"] != teachers["sre2l"]
    squeezed = nodes[teachers["sre2l"]].spec
    assert isinstance(squeezed, TrainSpec) and squeezed.model.params["norm"] == "batch"
    spec = nodes[cells["stratified"].train].spec
    assert isinstance(spec, TrainSpec) and spec.teacher is None
