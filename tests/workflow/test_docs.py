"""The pages on adding a method, a dataset and a suite, followed to the letter in a copy of the tree."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from tree import REPOSITORY, Tree, make_tree

BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    text = (REPOSITORY / "docs" / f"{page}.md").read_text()
    return [body for found, body in BLOCK.findall(text) if found == language]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return make_tree(tmp_path / "tree")


def metrics_of(tree: Tree) -> pd.DataFrame:
    return pd.read_parquet(tree.store / "metrics.parquet")


@pytest.mark.slow
def test_a_method_is_one_file_and_an_arm(tree: Tree) -> None:
    (code,) = blocks("add-a-method", "python")
    (arms,) = blocks("add-a-method", "yaml")
    (tree.root / "src/winnow/select/nearest_centre.py").write_text(code)
    arms = arms.replace("[0.2]", "[0.5]")
    tree.replace("suites/tiny.yaml", "scales:\n", f"{arms}scales:\n")
    done = tree.snakemake("--config", "seeds=1")
    assert done.returncode == 0, done.stdout
    table = metrics_of(tree).query("metric == 'test_accuracy'")
    assert {"near", "far"} <= set(table["arm"])
    assert set(table[table["arm"] == "near"]["budget"]) == {719}
    page = (tree.store / "report" / "index.html").read_text()
    assert "nearest to the centre" in page
    contract = REPOSITORY / "tests/unit/test_method_contract.py"
    pytest_run = [sys.executable, "-m", "pytest", "-q", "-c", "pyproject.toml", "--noconftest"]
    command = [*pytest_run, "-k", "nearest_centre", str(contract)]
    tested = subprocess.run(
        command, cwd=tree.root, env=tree.environment(), capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stdout
    assert re.search(r"\d\d passed", tested.stdout)


@pytest.mark.slow
def test_a_suite_is_one_file(tree: Tree) -> None:
    (suite,) = blocks("add-a-suite", "yaml")
    (tree.root / "suites/balance.yaml").write_text(suite)
    done = tree.snakemake("--config", "suites=[balance]", "seeds=2")
    assert done.returncode == 0, done.stdout
    table = metrics_of(tree).query("metric == 'test_accuracy'")
    assert set(table["arm"]) == {"full", "random", "stratified"}
    (claim,) = json.loads((tree.store / "claims.json").read_text())
    assert claim["id"] == "balance_helps"
    assert claim["verdict"] == "inconclusive", "two repetitions decide nothing"


@pytest.mark.slow
def test_a_dataset_is_an_entry(tree: Tree) -> None:
    """Make the page's file, fingerprint it, write the entry with what was printed, and run a suite on it."""
    make, *_ = blocks("add-a-dataset", "python")
    subprocess.run([sys.executable, "-c", make], cwd=tree.root, check=True)
    printed = tree.script("fingerprint", "my-mirror/bars/bars.npz").stdout
    entry = next(body for body in blocks("add-a-dataset", "yaml") if body.startswith("bars:"))
    for key in ("bytes", "sha256"):
        value = re.search(rf"{key}: (\S+)", printed)
        assert value, printed
        entry = re.sub(rf"{key}: \S+", f"{key}: {value[1]}", entry)
    tree.append("datasets.yaml", f"\n{entry}")
    tree.replace("suites/tiny.yaml", "      digits: {}", "      bars: {}")
    done = tree.snakemake("--config", "seeds=1", "mirror=my-mirror")
    assert done.returncode == 0, done.stdout
    assert set(metrics_of(tree)["dataset"]) == {"bars"}


def test_pages_link_to_files_that_are_there() -> None:
    pages = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_no_script_hides_a_standard_module() -> None:
    names = {path.stem for path in (REPOSITORY / "scripts").glob("*.py")}
    assert not names & set(sys.stdlib_module_names)


def test_make_help_names_every_target() -> None:
    if shutil.which("make") is None:
        pytest.fail("make is needed to use this project")
    done = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for target in ("demo", "test", "small", "download", "report", "lint", "bench", "clean", "plan"):
        assert re.search(rf"^{target} ", done.stdout, re.MULTILINE), done.stdout
