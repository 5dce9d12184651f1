"""The plan: what its ids depend on and what they do not, what a change adds, and what code it follows."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plan_inputs import CONFIG, DATASETS, ROOT, SUITE, change, copy_inputs, read, write

from winnow.plan import code
from winnow.plan.grid import round_half_up
from winnow.plan.plan import Plan, load_plan
from winnow.plan.specs import PrepareSpec, SelectSpec, TrainSpec
from winnow.seeds import AXES, derive

SCALES = ("demo", "small", "paper")
PER_JOB = {"demo": 3, "small": 1, "paper": 1}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the plan's inputs with a mirror that names every file; nothing reads the files."""
    copy_inputs(tmp_path)
    for name, entry in read(tmp_path / DATASETS).items():
        for file in entry.get("files", []):
            path = tmp_path / "mirror" / name / file["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    change(tmp_path / CONFIG, "mirror", str(tmp_path / "mirror"))
    for name in ("WINNOW_MIRROR", "WINNOW_SETTINGS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def plan(tree: Path, **settings: Any) -> Plan:
    return load_plan(read(tree / CONFIG) | settings, root=tree)


def ids(tree: Path, **settings: Any) -> set[str]:
    return set(plan(tree, **settings).graph.nodes)


def of(stage: str, references: set[str]) -> set[str]:
    return {reference for reference in references if reference.startswith(f"{stage}/")}


# -- the graph ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
def test_ids_are_unique_and_name_folders(tree: Path, scale: str) -> None:
    nodes = plan(tree, scale=scale).graph.nodes
    contents = {(node.spec.stage, node.spec.json_text()) for node in nodes.values()}
    assert len(contents) == len(nodes) == len({node.id[-8:] for node in nodes.values()})
    for reference, node in nodes.items():
        assert reference == f"{node.spec.stage}/{node.id}"
        assert re.fullmatch(r"[a-z][A-Za-z0-9._-]*-[0-9a-f]{8}", node.id)
        assert len(node.id) < 200  # file systems allow 255 bytes, logs add an ending


@pytest.mark.parametrize("scale", SCALES)
def test_every_input_is_a_job_that_ends_in_data(tree: Path, scale: str) -> None:
    graph = plan(tree, scale=scale).graph

    def depth(reference: str) -> int:
        node = graph.nodes[reference]
        if isinstance(node.spec, PrepareSpec):
            return 0
        assert node.spec.inputs()
        return 1 + max(depth(need) for need in node.spec.inputs().values())

    assert max(depth(reference) for reference in graph.nodes) <= 10
    used = {need for node in graph.nodes.values() for need in node.spec.inputs().values()}
    wanted = {cell.evaluate for cell in graph.cells["sas"]}
    assert set(graph.nodes) == used | wanted, "no job is planned in vain"


@pytest.mark.parametrize("scale", SCALES)
def test_paths_of_inputs_and_outputs_agree(tree: Path, scale: str) -> None:
    planned = plan(tree, scale=scale)
    made = {planned.path(reference) for reference in planned.graph.nodes}
    downloads = {file for dataset in planned.datasets for file in planned.downloads(dataset)}
    for node in planned.graph.nodes.values():
        for name, path in planned.inputs(node.spec.stage, node.id).items():
            assert set(path) <= downloads if name == "files" else path in made
    cells = planned.graph.cells["sas"]
    assert {planned.path(cell.evaluate) for cell in cells} <= set(planned.collect_inputs("sas")) <= made
    assert set(planned.prepare_inputs("sas")) <= made
    chosen = {planned.path(cell.select) for cell in cells if cell.select}
    assert set(planned.selection_inputs("sas")) == chosen


@pytest.mark.parametrize("scale", SCALES)
def test_the_grid_is_complete_and_paired(tree: Path, scale: str) -> None:
    planned = plan(tree, scale=scale)
    suite, graph = planned.suites["sas"], planned.graph
    expected = set()
    for dataset, grid in suite.scales[scale].items():
        for name in grid.arms or suite.arms:
            arm = suite.arms[name]
            points = [
                (length, fraction)
                for length in arm.lengths
                for fraction in grid.fractions.get(length, [])
                if arm.fractions is None or fraction in arm.fractions
            ]
            for length, fraction in [("epochs", 1.0)] if arm.role == "reference" else points:
                expected |= {(dataset, name, length, fraction, seed) for seed in range(grid.seeds)}
    found = [
        (cell.dataset, cell.arm, cell.length, cell.fraction, seed)
        for cell in graph.cells["sas"]
        for seed in cell.report_seeds
    ]
    assert len(found) == len(set(found))
    assert set(found) == expected
    for cell in graph.cells["sas"]:
        for reference in (cell.evaluate, cell.train, *cell.upstream):
            assert set(cell.report_seeds) <= set(graph.nodes[reference].spec.seeds)  # type: ignore[attr-defined]


@pytest.mark.parametrize("scale", SCALES)
def test_budgets_and_lengths_are_exact(tree: Path, scale: str) -> None:
    planned = plan(tree, scale=scale)
    for cell in planned.graph.cells["sas"]:
        grid = planned.suites["sas"].scales[scale][cell.dataset]
        n = sum(grid.limits.get("train", 10**9) if split == "train" else 10**9 for split in grid.pool)
        n = min(n, sum(planned.catalogue[cell.dataset].splits[split] for split in grid.pool))
        budget = int(cell.fraction * n + 0.5)
        train = planned.graph.nodes[cell.train].spec
        assert isinstance(train, TrainSpec)
        assert train.epochs == grid.training.epochs and train.batch_size == grid.training.batch_size
        assert train.steps_as == (n if cell.length == "steps" else None)
        if cell.select is None:
            assert cell.fraction == 1.0 and train.subset is None and train.budget is None
            continue
        select = planned.graph.nodes[cell.select].spec
        assert isinstance(select, SelectSpec)
        assert train.subset == cell.select
        assert {train.budget, select.budget} == {None, budget}, "either the method or the training cuts"


@pytest.mark.parametrize(
    ("value", "expected"), [(0.49, 0), (0.5, 1), (1.5, 2), (2.5, 3), (0.1 * 25, 3), (0.7 * 45, 32), (7, 7)]
)
def test_halves_are_rounded_up(value: float, expected: int) -> None:
    assert round_half_up(value) == expected


# -- what ids depend on -------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
def test_equal_inputs_give_equal_ids_in_every_order_and_process(tree: Path, scale: str) -> None:
    before = ids(tree, scale=scale)
    for hash_seed in ("0", "1"):
        code = (
            "import sys, pathlib, json; from winnow.plan.plan import load_plan;"
            f"print(json.dumps(sorted(load_plan(json.loads(sys.argv[1]), "
            f"pathlib.Path({str(tree)!r})).graph.nodes)))"
        )
        settings = json.dumps(read(tree / CONFIG) | {"scale": scale})
        assert set(json.loads(python(code, settings, PYTHONHASHSEED=hash_seed))) == before
    for name in (CONFIG, DATASETS, SUITE):
        write(tree / name, reverse(read(tree / name)))
    assert ids(tree, scale=scale) == before


def reverse(value: Any) -> Any:
    """Return YAML data with the keys of every mapping in the opposite order."""
    if isinstance(value, dict):
        return {key: reverse(inner) for key, inner in reversed(value.items())}
    return [reverse(inner) for inner in value] if isinstance(value, list) else value


def python(code: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_two_swapped_values_are_another_training(tree: Path) -> None:
    place = "scales/demo/defaults/training/trainer/params"
    found = []
    for rate, decay in ((0.001, 0.0001), (0.0001, 0.001)):
        change(tree / SUITE, f"{place}/lr", rate)
        change(tree / SUITE, f"{place}/weight_decay", decay)
        found.append(ids(tree))
    first, second = (of("train", references) for references in found)
    proxy = of("train", found[0] & found[1])
    assert len(proxy) == 1, "only the proxy, whose settings are its own, is shared"
    assert len(first) == len(second) > 10
    assert found[0] - of("train", found[0]) - of("evaluate", found[0]) <= found[1]
    assert not of("evaluate", found[0] & found[1])


@pytest.mark.parametrize(
    ("name", "keys", "value"),
    [
        (SUITE, "arms/random/label", "chance"),
        (SUITE, "question", "Another question?"),
        (SUITE, "claims/0/margin", 0.02),
        (SUITE, "figures", []),
        (DATASETS, "digits/title", "Digits"),
        (DATASETS, "digits/homepage", "https://example.org"),
        (CONFIG, "device", "cpu"),
        (CONFIG, "store", "elsewhere"),
        (CONFIG, "mirror", None),
    ],
)
def test_words_and_places_change_no_id(tree: Path, name: str, keys: str, value: object) -> None:
    before = ids(tree)
    change(tree / name, keys, value)
    assert ids(tree) == before


@pytest.mark.parametrize(
    ("name", "keys", "value", "kept"),
    [
        (DATASETS, "digits/splits/test", 359, set()),
        (SUITE, "scales/demo/defaults/limits", {"train": 1000}, set()),
        (SUITE, "scales/demo/defaults/evaluation/params", {"iterations": 7}, {"prepare", "train", "signals"}),
        (SUITE, "scales/demo/defaults/signals/latent_classes/labelled", 60, {"prepare"}),
    ],
)
def test_content_changes_ids_from_there_on(
    tree: Path, name: str, keys: str, value: object, kept: set[str]
) -> None:
    before = ids(tree)
    change(tree / name, keys, value)
    after = ids(tree)
    assert len(after) == len(before)
    assert not of("evaluate", before & after) or "prepare" in kept
    assert {stage for stage in ("prepare", "train", "signals") if of(stage, before) <= after} == kept


@pytest.mark.parametrize("scale", SCALES)
def test_another_root_seed_is_another_experiment(tree: Path, scale: str) -> None:
    assert not ids(tree, scale=scale, root_seed=0) & ids(tree, scale=scale, root_seed=1)


# -- what a change adds -------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
def test_a_further_repetition_only_adds(tree: Path, scale: str) -> None:
    three, four = (ids(tree, scale=scale, seeds=seeds) for seeds in (3, 4))
    data = of("prepare", three)
    assert three < four
    assert len(four - three) == (len(three) - len(data)) * PER_JOB[scale] // 3
    assert all(f"-s{'3-5' if PER_JOB[scale] == 3 else '3'}-" in reference for reference in four - three)


def test_the_suites_own_number_is_the_default(tree: Path) -> None:
    before = ids(tree, scale="small")
    assert before == ids(tree, scale="small", seeds=3) == ids(tree, scale="small", seeds=[2, 0, 1])
    change(tree / SUITE, "scales/small/defaults/seeds", 4)
    assert before < ids(tree, scale="small") == ids(tree, scale="small", seeds=4)


def test_repetitions_of_one_job_share_it(tree: Path) -> None:
    one, two = (plan(tree, seeds=seeds).graph for seeds in (1, 2))
    assert set(one.nodes) == set(two.nodes)
    assert {cell.report_seeds for cell in one.cells["sas"]} == {(0,)}
    assert {cell.report_seeds for cell in two.cells["sas"]} == {(0, 1)}
    far = plan(tree, seeds=[7]).graph
    assert {cell.report_seeds for cell in far.cells["sas"]} == {(7,)}
    assert of("evaluate", set(far.nodes)).isdisjoint(one.nodes)


@pytest.mark.parametrize("scale", SCALES)
def test_a_further_fraction_only_adds(tree: Path, scale: str) -> None:
    before = ids(tree, scale=scale)
    place = f"scales/{scale}/defaults/fractions/epochs"
    change(
        tree / SUITE, place, [*read(tree / SUITE)["scales"][scale]["defaults"]["fractions"]["epochs"], 0.5]
    )
    added = ids(tree, scale=scale) - before
    assert before < before | added == ids(tree, scale=scale)
    assert {reference.split("/")[0] for reference in added} == {"selection", "train", "evaluate"}
    nested = {reference for reference in of("selection", added) if "-random-" in reference}
    assert not nested, "one ordering serves every budget"


def test_a_further_arm_only_adds(tree: Path) -> None:
    before = ids(tree)
    arm = {"label": "balanced", "role": "control", "method": "random", "variant": "stratified"}
    change(tree / SUITE, "arms/balanced", arm)
    assert before < ids(tree)


def test_a_second_suite_shares_what_is_equal(tree: Path) -> None:
    change(tree / SUITE, "title", "SAS")
    data = read(tree / SUITE) | {"name": "controls", "claims": [], "reproduction": []}
    data["arms"] = {name: data["arms"][name] for name in ("full", "random")}
    data["scales"] = {"demo": data["scales"]["demo"]}
    write(tree / "suites" / "controls.yaml", data)
    alone, both = ids(tree), plan(tree, suites=["sas", "controls"]).graph
    assert set(both.nodes) == alone, "the controls are part of the first suite"
    shared = {reference for reference, users in both.users.items() if users == {"sas", "controls"}}
    assert {cell.evaluate for cell in both.cells["controls"]} <= shared < alone


# -- seeds --------------------------------------------------------------------------------------------


def test_seeds_differ_by_root_axis_repetition_and_context() -> None:
    seeds = [derive(root, axis, n) for root in range(5) for axis in AXES for n in range(20)]
    seeds += [derive(0, "clustering", 0, "labelled"), derive(0, "clustering", 0, "labelled", 1)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_are_the_same_for_ever() -> None:
    assert derive(0, "init", 0) == 7_615_695_542_073_086_227
    assert derive(7, "selection", 3, "labelled") == 8_604_500_186_416_526_311


def test_an_axis_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown seed axis 'weights'; accepted: data, init"):
        derive(0, "weights", 0)


# -- what the plan imports, and the code that stages follow -------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
def test_the_plan_imports_no_heavy_library(tree: Path, scale: str) -> None:
    code = (
        "import sys, json, pathlib; from winnow.plan.plan import load_plan;"
        "plan = load_plan(json.loads(sys.argv[1]), pathlib.Path(sys.argv[2]));"
        "[plan.code(node.spec.stage, node.id) for node in plan.graph.nodes.values()];"
        "plan.figure_code('sas', 'accuracy_vs_cost');"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    loaded = json.loads(python(code, json.dumps(read(tree / CONFIG) | {"scale": scale}), str(tree)))
    assert "winnow" in loaded
    heavy = {"torch", "torchvision", "kornia", "pandas", "pyarrow", "matplotlib", "scipy", "sklearn", "faiss"}
    assert not heavy & set(loaded)


SCRIPTS = ("collect", "evidence", "export", "gather", "report")
DIGESTS = """
import json, sys
from winnow.plan.code import code_digest
from winnow.plan.plan import load_plan
plan = load_plan({})
found = {}
for reference, node in plan.graph.nodes.items():
    found[reference.rsplit("-", 1)[0]] = plan.code(node.spec.stage, node.id)
found |= {script: code_digest(script) for script in sys.argv[1:]}
found |= {f.figure: plan.figure_code("sas", f.figure) for f in plan.suites["sas"].figures}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clone")
    copy_inputs(root)
    for name in ("src", "scripts"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture(scope="module")
def before(clone: Path) -> dict[str, str]:
    return digests(clone)


def digests(clone: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(python(DIGESTS, *SCRIPTS, PYTHONPATH=str(clone / "src")))
    return found


def changed(clone: Path, before: dict[str, str], file: str, text: str) -> set[str]:
    """Return the stages whose digest differs while a file has another text."""
    path = clone / file
    original = path.read_text()
    path.write_text(text)
    try:
        after = digests(clone)
    finally:
        path.write_text(original)
    assert before.keys() == after.keys()
    return {short(name) for name in before if before[name] != after[name]}


def short(name: str) -> str:
    """Return the stage, and for selections and signals which one."""
    stage, _, slug = name.partition("/")
    return f"{stage}:{slug.split('-')[1]}" if stage in ("selection", "signals") else stage


SHARED = "src/winnow/models/engine/logistic.py"
SAS, RANDOM, FULL = "selection:sas", "selection:random", "selection:full"
EMBEDDINGS, CLASSES = "signals:embeddings", "signals:latent_classes"
FIGURES = {"accuracy_vs_fraction", "accuracy_vs_cost"}


def test_comments_and_docstrings_change_no_digest(clone: Path, before: dict[str, str]) -> None:
    text = (clone / SHARED).read_text()
    quiet = re.sub(r'"""(?=\w)', '"""Once more: ', text).replace("\n\n\n", "\n\n\n# A remark.\n")
    assert quiet.count("Once more") >= 2 and quiet.count("# A remark") >= 2
    assert changed(clone, before, SHARED, quiet) == set()


def test_imports_are_found_wherever_they_stand() -> None:
    """Statements are walked alone; a walk over all nodes finds no import that they miss."""
    nested = ast.parse(
        "try: import a\nexcept E:\n if x: import b\n else: import c\nelse: import d\nfinally: import e\n"
        "match x:\n case 1:\n  with f:\n   import g\nclass H:\n async def i(s):\n  for j in k: import l"
    )
    trees = [nested, *(ast.parse(path.read_text()) for path in (ROOT / "src").rglob("*.py"))]
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for tree in trees:
        found = {node for node in code._statements(tree) if isinstance(node, kinds)}
        assert found == {node for node in ast.walk(tree) if isinstance(node, kinds)}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (SHARED, {"evaluate", CLASSES}),
        ("src/winnow/select/engine/graph_cut.py", {SAS}),
        ("src/winnow/select/random.py", {RANDOM}),
        ("src/winnow/data/readers/bundled.py", {"prepare"}),
        ("src/winnow/data/readers/idx.py", set()),
        ("src/winnow/train/simclr.py", {"train"}),
        ("src/winnow/models/convnet.py", {"train", "evaluate", EMBEDDINGS}),
        ("src/winnow/models/resnet.py", set()),
        ("src/winnow/evidence/paired.py", {"evidence"}),
        ("src/winnow/figures/accuracy_vs_cost.py", {"accuracy_vs_cost"}),
        ("src/winnow/report/build.py", {"report"}),
        ("src/winnow/plan/expand.py", set()),
        ("src/winnow/errors.py", set()),
        ("scripts/train.py", {"train"}),
        ("scripts/collect.py", {"collect"}),
    ],
)
def test_an_edit_changes_the_digests_of_what_imports_it(
    clone: Path, before: dict[str, str], file: str, expected: set[str]
) -> None:
    assert changed(clone, before, file, (clone / file).read_text() + "\nEDITED = True\n") == expected


def test_a_template_belongs_to_the_report(clone: Path, before: dict[str, str]) -> None:
    style = "src/winnow/report/templates/style.css"
    assert changed(clone, before, style, (clone / style).read_text() + "\nbody { margin: 0 }\n") == {"report"}
