"""What runs again after which edit: exactly the jobs that the edit concerns, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tree import Tree

pytestmark = pytest.mark.slow

Job = tuple[str, str]
REPORTS = {"suite_report", "overall_report"}
DRAWN = {"draw"} | REPORTS
JUDGED = {"evidence", "gather"} | DRAWN
MEASURED = {"collect", "export"} | JUDGED


@pytest.fixture
def tree(finished: Tree, tmp_path: Path) -> Tree:
    return finished.copy(tmp_path / "tree")


@pytest.fixture(scope="module")
def everything(finished: Tree) -> set[Job]:
    """All jobs of the tree before any edit."""
    return finished.planned("--forceall")


def among(jobs: set[Job], keep: Callable[[str, str], bool]) -> set[Job]:
    """Return the jobs for which keep(rule, output) holds."""
    return {(rule, output) for rule, output in jobs if keep(rule, output)}


def test_nothing_changed(tree: Tree, everything: set[Job]) -> None:
    assert tree.planned() == set()
    assert len(among(everything, lambda rule, output: rule == "train")) == 8


def test_comments_and_docstrings(tree: Tree) -> None:
    for path in ("src/winnow/store.py", "src/winnow/train/engine/loop.py", "scripts/train.py"):
        tree.append(path, "\n# A comment.\n")
    tree.replace("src/winnow/store.py", '"""Wall and CPU seconds of one repetition."""', '"""Seconds."""')
    assert tree.planned() == set()


def test_a_helper_that_every_stage_uses(tree: Tree, everything: set[Job]) -> None:
    """The counterpart of the test above: the same file, but a statement."""
    tree.append("src/winnow/store.py", "\nMORE = 1\n")
    assert tree.planned() == everything


def test_one_figure(tree: Tree, everything: set[Job]) -> None:
    tree.append("src/winnow/figures/accuracy_vs_cost.py", "\nMORE = 1\n")
    expected = among(everything, lambda rule, output: rule in REPORTS or "figures/accuracy_vs_cost" in output)
    assert {rule for rule, _ in expected} == DRAWN
    assert tree.planned() == expected


def test_the_style_of_all_figures(tree: Tree, everything: set[Job]) -> None:
    tree.append("src/winnow/figures/style.py", "\nMORE = 1\n")
    assert tree.planned() == among(everything, lambda rule, output: rule in DRAWN)


@pytest.mark.parametrize("ending", [".css", ".j2", ".js"])
def test_the_report_s_templates(tree: Tree, everything: set[Job], ending: str) -> None:
    (template, *_) = sorted((tree.root / "src" / "winnow" / "report" / "templates").glob(f"*{ending}"))
    tree.append(str(template.relative_to(tree.root)), "\n")
    assert tree.planned() == among(everything, lambda rule, output: rule in REPORTS)


def test_a_helper_of_two_stages(tree: Tree, everything: set[Job]) -> None:
    """features.py serves embeddings and evaluation: training on all data and random subsets stay."""
    tree.append("src/winnow/train/engine/features.py", "\nMORE = 1\n")

    def follows(rule: str, output: str) -> bool:
        return rule in {"signals", "evaluate"} | MEASURED or (
            rule in {"selection", "train"} and "sas" in output
        )

    expected = among(everything, follows)
    assert {rule for rule, _ in expected} == {"signals", "selection", "train", "evaluate"} | MEASURED
    assert tree.planned() == expected


def test_one_method(tree: Tree, everything: set[Job]) -> None:
    tree.append("src/winnow/select/sas.py", "\nMORE = 1\n")
    expected = among(everything, lambda rule, output: "-sas-" in output or rule in MEASURED)
    assert {rule for rule, _ in expected} == {"selection", "train", "evaluate"} | MEASURED
    assert tree.planned() == expected


def test_a_reader_that_no_dataset_uses(tree: Tree) -> None:
    tree.append("src/winnow/data/readers/csv.py", "\nMORE = 1\n")
    assert tree.planned() == set()


def test_two_swapped_hyper_parameters(tree: Tree, everything: set[Job]) -> None:
    tree.replace("suites/tiny.yaml", "lr: 1.0e-3, weight_decay: 1.0e-4", "lr: 1.0e-4, weight_decay: 1.0e-3")

    def follows(rule: str, output: str) -> bool:
        return rule != "prepare" and not (rule == "selection" and "-random-" in output)

    planned = tree.planned()
    assert planned == among(tree.planned("--forceall"), follows)
    assert not {job for job in everything if job[0] == "train"} & planned, "a training job kept its id"


def test_one_more_repetition(tree: Tree, everything: set[Job]) -> None:
    tree.replace("suites/tiny.yaml", "seeds: 2\n", "seeds: 3\n")
    new = tree.planned("--forceall") - everything
    assert {rule for rule, _ in new} == {"train", "signals", "selection", "evaluate"}
    assert all("-s2-" in output for _, output in new)
    assert tree.planned() == new | among(everything, lambda rule, output: rule in MEASURED)


def test_one_more_fraction(tree: Tree, everything: set[Job]) -> None:
    tree.replace("suites/tiny.yaml", "epochs: [0.5]", "epochs: [0.5, 0.25]")
    new = tree.planned("--forceall") - everything
    assert {rule for rule, _ in new} == {"train", "selection", "evaluate"}
    assert all("-f0.25-" in output for _, output in new)
    assert tree.planned() == new | among(everything, lambda rule, output: rule in MEASURED)


def test_fewer_repetitions_run_no_stage(tree: Tree, everything: set[Job]) -> None:
    """Asking for less needs no new artefact: only tables, figures and report are made again."""
    tree.replace("suites/tiny.yaml", "seeds: 2\n", "seeds: 1\n")
    assert tree.planned() == among(everything, lambda rule, output: rule in MEASURED)


def test_where_and_how_fast_it_runs_changes_nothing(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    assert tree.planned("--cores", "1") == set()
    assert tree.planned("--config", f"mirror={tmp_path / 'mirror'}") == set()
    assert tree.planned(WINNOW_MIRROR=str(tmp_path / "mirror")) == set()
    assert tree.planned("--config", "seeds=2") == set()


def test_the_label_of_an_arm(tree: Tree, everything: set[Job]) -> None:
    """The arms are part of the evidence's spec, so that it runs again: a second's work."""
    tree.replace("suites/tiny.yaml", "label: SAS,", "label: another name,")
    assert tree.planned() == among(everything, lambda rule, output: rule in JUDGED)


def test_the_margin_of_a_claim(tree: Tree, everything: set[Job]) -> None:
    tree.replace("suites/tiny.yaml", "margin: 0.0", "margin: 0.1")
    assert tree.planned() == among(everything, lambda rule, output: rule in JUDGED)


def test_an_edit_runs_once(tree: Tree) -> None:
    tree.append("src/winnow/figures/accuracy_vs_cost.py", "\nMORE = 1\n")
    done = tree.snakemake()
    assert done.returncode == 0, done.stdout
    assert tree.planned() == set()
