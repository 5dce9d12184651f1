"""A dataset with a crawl in the plan: what it needs, what `download` makes, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from plan_inputs import CONFIG, DATASETS, change, copy_inputs, read

from winnow.errors import UserError
from winnow.plan.catalogue import load_catalogue
from winnow.plan.plan import Plan, load_plan
from winnow.plan.shared import join_store, needs

SUITE = "suites/sas.yaml"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone's plan files in which the demo is of CC3M."""
    copy_inputs(tmp_path)
    change(tmp_path / SUITE, "scales/demo/datasets", {"cc3m": {"pool": ["train"]}})
    for name in ("WINNOW_MIRROR", "WINNOW_SETTINGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(tree: Path, check_sources: bool = False, **settings: Any) -> Plan:
    settings = read(tree / CONFIG) | {"suites": ["sas"], "scale": "demo"} | settings
    return load_plan(settings, root=tree, check_sources=check_sources)


def test_preparing_reads_the_manifest_and_download_makes_it(tree: Path) -> None:
    found = plan(tree)
    (reference,) = (ref for ref in found.graph.nodes if ref.startswith("prepare/"))
    assert found.inputs("prepare", reference.split("/")[1]) == {"files": ["results/data/cc3m/crawl.json"]}
    assert found.targets("cc3m") == ["results/data/cc3m/crawl.json"]
    assert found.crawl_inputs("cc3m") == []
    assert "data/cc3m/crawl.json" in needs(found)
    assert json.loads(found.crawl_spec("cc3m"))["crawl"]["shard_size"] == 10_000
    with pytest.raises(UserError, match="digits: has no `crawl`"):
        found.crawl_inputs("digits")


def test_a_list_with_a_known_checksum_is_fetched_first(tree: Path) -> None:
    name = "Train_GCC-training.tsv"
    file = {"name": name, "bytes": 9, "sha256": "0" * 64, "urls": ["https://example.org/x"]}
    change(tree / DATASETS, "cc3m/files", [file])
    found = plan(tree, check_sources=True)
    assert found.crawl_inputs("cc3m") == [f"results/data/cc3m/{name}"]
    assert found.targets("cc3m") == [f"results/data/cc3m/{name}", "results/data/cc3m/crawl.json"]


def test_a_crawl_without_its_list_does_not_keep_other_suites_from_being_planned(tree: Path) -> None:
    assert plan(tree, check_sources=True).targets("cc3m") == ["results/data/cc3m/crawl.json"]


def test_the_manifest_of_a_shared_store_is_linked(tree: Path, tmp_path: Path) -> None:
    found = plan(tree, store=str(tmp_path / "store"))
    (place,) = found.target_places("cc3m")
    place.parent.mkdir(parents=True)
    place.write_text("{}")
    join_store(found, None, ["snakemake", "-n"])
    assert os.readlink("results/data/cc3m/crawl.json") == str(place)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ("crawl/columns", ["caption"], "`columns` must name 'url' once"),
        ("crawl/columns", ["url", "caption", "url"], "`columns` must name 'url' once"),
        ("crawl/shard_size", 0, "greater than 0"),
        ("crawl/list", "../list.tsv", "list"),
        ("kind", "images", "`crawl` brings images with captions"),
        ("options/splits/train/part", {"of": 3}, "give `take` or `leave`"),
        ("options/splits/train/part", {"of": 3, "leave": [3]}, "`leave` holds 3; remainders of 3 are 0 to 2"),
        ("options/splits/train/shards", ["a.tar"], "a.tar"),
    ],
)
def test_a_mistake_in_the_entry_is_told(tree: Path, keys: str, value: object, message: str) -> None:
    change(tree / DATASETS, f"cc3m/{keys}", value)
    with pytest.raises(UserError) as error:
        load_catalogue(tree / DATASETS)
    assert message in str(error.value)
