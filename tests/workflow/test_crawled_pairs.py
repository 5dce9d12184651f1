"""`snakemake download` of a dataset with a crawl, and its preparation, from a server that fails at times."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tree import REPOSITORY, SUITE, Tree, make_tree

from winnow.canonical import sha256_file
from winnow.data.dataset import Dataset

sys.path.insert(0, str(REPOSITORY / "tests" / "unit"))
from crawl_env import crawl_python
from pair_server import serving

pytestmark = pytest.mark.slow

ENTRY = """
web:
  title: Pairs of a local server
  kind: pairs
  licence: CC0
  homepage: https://example.org/web
  reader: webdataset
  crawl: {list: web.tsv, columns: [caption, url], image_size: 24, shard_size: 10}
  options:
    splits:
      train: {part: {of: 5, leave: [0]}}
      validation: {part: {of: 5, take: [0]}}
  splits: {train: 16, validation: 4}
  shape: [16, 16, 3]
"""


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = make_tree(tmp_path / "tree", SUITE.replace("      digits: {}", "      web: {}"))
    tree.append("datasets.yaml", ENTRY)
    return tree


def test_download_crawls_and_prepare_leaves_the_pixels_in_shards(tree: Tree, tmp_path: Path) -> None:
    environment = {"WINNOW_CRAWL_ENV": str(crawl_python().parents[1])}
    mirror = tmp_path / "mirror" / "web"
    words = ("--config", f"mirror={mirror.parent}")
    mirror.mkdir(parents=True)
    refused = tree.snakemake(*words, target="download", **environment)
    assert "'web.tsv' has no known checksum" in refused.stdout
    with serving() as server:
        kinds = ["missing" if i % 10 == 3 else "good" for i in range(25)]
        listed = mirror / "web.tsv"
        listed.write_text("".join(f"picture {i}\t{server.url(f'{k}/{i}')}\n" for i, k in enumerate(kinds)))
        (mirror / "web.tsv.sha256").write_text(f"{sha256_file(listed)}  web.tsv\n")
        done = tree.snakemake(*words, target="download", **environment)
        assert done.returncode == 0, done.stdout
        asked = server.asked.total()
        assert damaged_then_fetched(tree, words, mirror.parent, environment) == 0
        assert server.asked.total() == asked + 11  # a missing picture is asked for twice
    manifest = json.loads((tree.root / "results/data/web/crawl.json").read_text())
    assert (manifest["usable"], manifest["failures"]) == (22, {"status 404": 3})
    again = tree.snakemake(*words, target="download", **environment)
    assert "Nothing to be done" in again.stdout
    assert server.asked.total() == asked + 11  # a missing picture is asked for twice
    (prepare,) = (output for rule, output in tree.planned(*words, **environment) if rule == "prepare")
    made = tree.snakemake(*words, target=prepare, **environment)
    assert made.returncode == 0, made.stdout
    data = Dataset.open(tree.root / prepare)
    assert [data.n("train"), data.n("validation")] == [16, 4]
    assert data.images("train")[:].shape == (16, 16, 16, 3)
    captions = list(data.table("validation")["caption"])
    assert captions == [f"picture {i}" for i in (0, 5, 10, 15)]
    left = json.loads((data.folder / "dataset.json").read_text())["left_out"]
    assert left["validation"] == {"beyond the number that the split takes": 1}


def damaged_then_fetched(
    tree: Tree, words: tuple[str, ...], mirror: Path, environment: dict[str, str]
) -> int:
    """Damage one shard, let `check` find and remove it, and download again; returns the exit status."""
    settings = ("--settings", json.dumps({"suites": ["tiny"], "mirror": str(mirror)}))
    assert tree.script("check", *settings).returncode == 0
    shard = tree.root / "results/data/web/shards/00001.tar"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    found = tree.script("check", *settings)
    assert (found.returncode, found.stdout.count("damaged: ")) == (1, 2), found.stdout
    assert tree.script("check", "--remove", *settings).returncode == 0
    return tree.snakemake(*words, target="download", **environment).returncode
