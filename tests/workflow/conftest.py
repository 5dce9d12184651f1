"""The finished run that the tests of this folder share."""

from __future__ import annotations

import pytest
from tree import Tree, make_tree


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A tree whose whole workflow has run once, without interruption. Copy it before you change it."""
    tree = make_tree(tmp_path_factory.mktemp("finished") / "tree")
    done = tree.snakemake()
    assert done.returncode == 0, done.stdout
    return tree
