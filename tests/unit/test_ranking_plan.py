"""The suite `dd_ranking`: its sets are those of `distillation`, and mistakes are told when planning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from winnow.errors import UserError
from winnow.plan.plan import Plan, load_plan
from winnow.plan.specs import DistillSpec, EvaluateSpec

ROOT = Path(__file__).parents[2]
SETTINGS = yaml.safe_load((ROOT / "config.yaml").read_text())
GIVEN = {"label": "given", "role": "method", "method": "given"}


def both(scale: str) -> Plan:
    return load_plan(
        SETTINGS | {"suites": ["distillation", "dd_ranking"], "scale": scale}, check_sources=False
    )


def rankings(plan: Plan, protocol: str) -> list[EvaluateSpec]:
    specs = [node.spec for node in plan.graph.nodes.values()]
    return [spec for spec in specs if isinstance(spec, EvaluateSpec) and spec.protocol.name == protocol]


def is_of_a_family(spec: DistillSpec) -> bool:
    """Return whether a set is of a method that is ranked at small with ten images per class too."""
    return spec.method.name in ("dm", "mtt", "dream", "ncfm", "rded") and spec.variant in ("default", "paper")


@pytest.mark.parametrize("scale", ["demo", "small", "paper"])
def test_it_makes_no_set_and_trains_no_model_of_its_own(scale: str) -> None:
    plan = both(scale)
    own = [reference for reference, users in plan.graph.users.items() if users == {"dd_ranking"}]
    assert {plan.graph.nodes[reference].spec.stage for reference in own} == {"evaluate"}
    made = {ref: node.spec for ref, node in plan.graph.nodes.items() if isinstance(node.spec, DistillSpec)}
    ranked = {spec.subject for spec in rankings(plan, "dd_ranking") if spec.subject.startswith("distill/")}
    wanted = {
        "demo": {ref for ref, s in made.items() if s.budget == 10 and s.method.name in ("dm", "mtt", "ncfm")},
        "small": {ref for ref, s in made.items() if s.budget == 10 or is_of_a_family(s)},
        "paper": set(made),
    }
    assert ranked and ranked == wanted[scale]


@pytest.mark.parametrize("scale", ["demo", "small", "paper"])
def test_real_baselines_are_shared_by_the_sets_of_their_size_and_network(scale: str) -> None:
    plan = both(scale)
    asked: dict[str, set[tuple[Any, ...]]] = {}
    for cell in plan.graph.cells["dd_ranking"]:
        assert (cell.measures == ()) == (cell.arm == "full")
        for measure in cell.measures:
            spec, trained = plan.graph.nodes[measure].spec, plan.graph.nodes[cell.train].spec.model_dump()
            assert isinstance(spec, EvaluateSpec) and spec.beside is not None and spec.judge is not None
            assert spec.judge.model.model_dump() == trained["model"], "judged by the arm's own network"
            taught = None if spec.judge.taught is None else str(spec.judge.taught)
            place = (cell.dataset, cell.fraction, trained["model"]["name"], cell.report_seeds, taught)
            asked.setdefault(spec.beside, set()).add(place)
            beside = plan.graph.nodes[spec.beside].spec
            assert isinstance(beside, EvaluateSpec)
            assert beside.protocol.params.items() <= spec.protocol.params.items()
            assert "weight" not in beside.protocol.params, "another weight trains no baseline anew"
            assert beside.judge == spec.judge
            assert plan.path(spec.beside) == plan.inputs("evaluate", measure.split("/")[1])["beside"]
    assert all(len(places) == 1 for places in asked.values())
    assert len(asked) == len(set().union(*asked.values())) == len(rankings(plan, "real_baseline"))
    budgets = {plan.graph.nodes[beside].spec.model_dump()["budget"] for beside in asked}
    assert (
        budgets
        == {
            "demo": {10},
            "small": {10, 100},
            "paper": {10, 100, 200, 500, 1000, 2000, 5000, 10000},
        }[scale]
    )


def test_panels_are_in_the_order_of_the_suite() -> None:
    options = json.loads(both("demo").figure_spec("dd_ranking", "side_by_side"))["options"]
    assert list(options["metrics"]) == ["hlr", "ior", "lrs", "ars"]


@pytest.mark.parametrize("scale", ["demo", "small", "paper"])
def test_sets_made_for_pretraining_are_ranked_by_a_recipe_for_labels(scale: str) -> None:
    plan = load_plan(SETTINGS | {"suites": ["mkdt", "dd_ranking_mkdt"], "scale": scale}, check_sources=False)
    own = [reference for reference, users in plan.graph.users.items() if users == {"dd_ranking_mkdt"}]
    stages = {plan.graph.nodes[reference].spec.stage for reference in own}
    assert stages == {"evaluate", "selection", "train"}, "the control with the data's classes, and rankings"
    found = rankings(plan, "dd_ranking")
    assert any(spec.subject.startswith("distill/") for spec in found)
    for spec in found:
        assert spec.judge is not None and spec.judge.trainer.name == "distilled"
        assert spec.judge.trainer.params["schedule"] == "step" and spec.judge.trainer.params["augment"]
        beside = plan.graph.nodes[spec.beside or ""].spec
        assert isinstance(beside, EvaluateSpec) and beside.judge == spec.judge
    judges = {(spec.judge.trainer.params["lr"], spec.judge.trainer.params["learned_rate"])
              for spec in found if spec.judge}  # fmt: skip
    assert len(judges) == 1, "what rankings do not read makes no baselines of their own"
    assert "no_pretraining" not in plan.suites["dd_ranking_mkdt"].arms
    if scale == "paper":
        made = {ref for ref, node in plan.graph.nodes.items() if isinstance(node.spec, DistillSpec)}
        assert made == {spec.subject for spec in found if spec.subject.startswith("distill/")}


def planned(tmp_path: Path, suite: str = "dd_ranking", **changes: Any) -> Plan:
    """Plan a suite at demo, beside its base, with keys changed: `a__b` is key b of a."""
    (tmp_path / "suites").mkdir(exist_ok=True)
    for name in ("distillation", "mkdt", "noise", "dd_ranking"):
        data = yaml.safe_load((ROOT / "suites" / f"{name}.yaml").read_text())
        for path, value in changes.items() if name == suite else ():
            *parents, last = path.replace("scale__", "scales__demo__defaults__").split("__")
            place = data
            for key in parents:
                place = place.setdefault(key, {})
            place[last] = value
        (tmp_path / "suites" / f"{name}.yaml").write_text(yaml.safe_dump(data))
    (tmp_path / "datasets.yaml").write_text((ROOT / "datasets.yaml").read_text())
    return load_plan(SETTINGS | {"suites": [suite], "scale": "demo"}, tmp_path)


def test_a_suite_is_laid_over_the_one_it_extends_key_by_key(tmp_path: Path) -> None:
    plan = planned(tmp_path, arms={"dm": {"label": "mine"}}, scale__methods={"dm": {"iterations": 7}})
    arms = plan.suites["dd_ranking"].arms
    assert (arms["dm"].label, arms["dm"].method, arms["mtt"].label) == ("mine", "dm", "MTT")
    made = [node.spec for node in plan.graph.nodes.values() if isinstance(node.spec, DistillSpec)]
    (params,) = [spec.method.params for spec in made if spec.method.name == "dm"]
    assert (params["iterations"], params["batch_real"]) == (7, 64)


def given(**params: Any) -> dict[str, Any]:
    return GIVEN | {"params": {"path": "README.md", "sha256": 64 * "0"} | params}


DD, BASELINE = {"name": "dd_ranking"}, {"name": "real_baseline"}


@pytest.mark.parametrize(
    ("suite", "changes", "message"),
    [
        ("dd_ranking", {"extends": "distilation"}, r"extends: unknown suite 'distilation'.*distillation"),
        ("dd_ranking", {"extends": "dd_ranking"}, "extends: unknown suite"),
        ("mkdt", {"extends": "dd_ranking"}, "'dd_ranking' extends distillation itself"),
        ("dd_ranking", {"scale__evaluation": DD}, "belongs under `measures`"),
        ("dd_ranking", {"scale__measures": [{"name": "accuracy"}]}, "belongs under `evaluation`"),
        ("dd_ranking", {"scale__measures": [BASELINE]}, "stands beside protocols"),
        ("dd_ranking", {"scale__evaluation": BASELINE}, "stands beside protocols"),
        ("mkdt", {"scale__measures": [DD]}, "'dd_ranking' trains on labels, but the scale has `targets`"),
        (
            "dd_ranking",
            {"scale__measures": [DD | {"training": {"trainer": {"name": "simclr"}}}]},
            r"'simclr' has none for synthetic sets .*measures\[0\]\.training\.trainer\.name",
        ),
        (
            "dd_ranking",
            {"scale__measures": [DD | {"training": {"epoch": 3}}]},
            r"measures\[0\]\.training: unknown key 'epoch'",
        ),
        (
            "dd_ranking",
            {"scale__measures": [DD | {"training": {"epochs": 3}}]},
            r"measures\[0\]\.training\.epochs: such trainings take `steps` of params",
        ),
        (
            "dd_ranking",
            {"scale__measures": [DD | {"training": {"trainer": {"params": {"teacher": True}}}}]},
            r"training\.trainer\.params\.teacher: the arm's own",
        ),
        ("dd_ranking", {"arms": {"dmm": None}}, r"arms \(to leave out\): unknown arm 'dmm'.*dm"),
        (
            "noise",
            {"scale__measures": [{"name": "noise_detection", "training": {"epochs": 3}}]},
            "'noise_detection' trains no networks; remove it",
        ),
        ("sas", {"scale__measures": [DD]}, "'simclr' has none for synthetic sets.*Name `distilled`"),
        (
            "dd_ranking",
            {"scale__pool": ["train", "unlabelled"], "scale__dataset": "stl10"},
            "'dd_ranking' needs labels of all",
        ),
        ("dd_ranking", {"scale__measures": [DD | {"params": {"steps": 0}}]}, r"measures\[0\].params.*steps"),
        ("dd_ranking", {"scale__measures": [DD | {"params": {"rates": []}}]}, r"measures\[0\].params.*rates"),
        (
            "dd_ranking",
            {"scale__measures": [DD | {"params": {"weight": 2}}]},
            r"measures\[0\].params.*weight",
        ),
        ("dd_ranking", {"arms": {"dm": given(path="no.npz")}}, r"arms.dm.params.path: 'no.npz' is not there"),
        ("dd_ranking", {"arms": {"dm": given(sha256="12")}}, "arms.dm.params.*sha256"),
        ("dd_ranking", {"arms": {"dm": given(labels="README.md")}}, "labels_sha256"),
    ],
)
def test_mistakes_are_told_when_planning(
    tmp_path: Path, suite: str, changes: dict[str, Any], message: str
) -> None:
    if suite == "sas":
        (tmp_path / "suites").mkdir()
        data = yaml.safe_load((ROOT / "suites/sas.yaml").read_text())
        data["scales"]["demo"]["defaults"] |= {"measures": changes["scale__measures"]}
        (tmp_path / "suites/sas.yaml").write_text(yaml.safe_dump(data))
    if "arms" in changes:
        changes = changes | {"scale__methods": {"given": {}}}
    with pytest.raises(UserError, match=message):
        planned(tmp_path, suite, **changes)
