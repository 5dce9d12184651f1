"""The finished run that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tree import Tree, built_once, make_tree


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A tree whose whole workflow has run once, without interruption. Copy it before you change it."""

    def build(root: Path) -> None:
        done = make_tree(root).snakemake()
        assert done.returncode == 0, done.stdout

    return built_once(tmp_path_factory, "finished", build)
