"""`datasets.yaml`: what is accepted, and how mistakes are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ConfigDict

from winnow.errors import UserError
from winnow.plan.catalogue import load_catalogue, reader_module, reader_names
from winnow.plan.yamlfile import load_yaml, validate

ROOT = Path(__file__).parents[2]


def toy() -> dict[str, Any]:
    """Return a correct entry."""
    return {
        "title": "Toy",
        "kind": "images",
        "licence": "MIT",
        "homepage": "https://example.org/toy",
        "reader": "npy",
        "options": {
            "splits": {
                "train": {
                    "images": {"file": "t.npz", "array": "x"},
                    "labels": {"file": "t.npz", "array": "y"},
                }
            }
        },
        "splits": {"train": 4},
        "shape": [2, 2, 1],
        "classes": ["a", "b"],
        "files": [
            {
                "name": "t.npz",
                "bytes": 10,
                "sha256": "0" * 64,
                "urls": ["https://example.org/toy/t.npz"],
            },
        ],
    }


def write(folder: Path, entry: dict[str, Any], name: str = "toy") -> Path:
    """Write a catalogue with one entry."""
    path = folder / "datasets.yaml"
    path.write_text(yaml.safe_dump({name: entry}))
    return path


def put(entry: dict[str, Any], keys: str, value: object) -> None:
    """Set a nested value; the keys are joined by dots, list positions are digits."""
    *parents, last = keys.split(".")
    inner: Any = entry
    for key in parents:
        inner = inner[int(key) if key.isdigit() else key]
    inner[last] = value


def test_the_projects_catalogue_loads() -> None:
    catalogue = load_catalogue(ROOT / "datasets.yaml")
    assert {
        "digits",
        "fashion_mnist",
        "cifar10",
        "cifar10_jpg",
        "cifar100",
        "stl10",
        "tiny_imagenet",
    } <= set(catalogue)
    assert catalogue["stl10"].splits == {
        "train": 5000,
        "test": 8000,
        "unlabelled": 100000,
    }
    assert catalogue["cifar100"].class_count == 100
    assert catalogue["fashion_mnist"].files[0].checksum[0] == "sha256"
    assert catalogue["tiny_imagenet"].files[0].checksum == (
        "md5",
        "90528d7ca1a48142e341f4ef8d21d0de",
    )


def test_every_reader_has_options_and_read() -> None:
    assert {
        "idx",
        "packed_binary",
        "image_archive",
        "npy",
        "parquet",
        "jsonl",
        "csv",
        "bundled",
        "digit_captions",
        "emoji",
    } <= set(reader_names())
    for name in reader_names():
        module = reader_module(name)
        assert issubclass(module.Options, BaseModel)
        assert callable(module.read)


def test_entries_are_frozen(tmp_path: Path) -> None:
    entry = load_catalogue(write(tmp_path, toy()))["toy"]
    assert entry.name == "toy"
    with pytest.raises(ValueError, match="frozen"):
        entry.title = "other"


def test_the_catalogue_needs_neither_torch_nor_pandas() -> None:
    code = (
        "import sys; from pathlib import Path; from winnow.plan.catalogue import load_catalogue; "
        f"load_catalogue(Path({str(ROOT / 'datasets.yaml')!r})); "
        "assert not {'torch', 'pandas', 'pyarrow', 'sklearn', 'requests'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


MISTAKES = [
    (
        "licenze",
        "MIT",
        ["toy: unknown key 'licenze'", "Did you mean 'licence'", "homepage"],
    ),
    ("kind", "image", ["toy.kind", "'image'", "images, pairs, text"]),
    ("reader", "npz", ["toy.reader", "unknown reader 'npz'", "parquet"]),
    ("splits.train", "many", ["toy.splits.train", "'many' is not accepted", "integer"]),
    ("splits.train", 0, ["toy.splits.train", "greater than 0"]),
    (
        "splits.dev",
        3,
        ["toy.splits.dev", "'dev'", "test, train, unlabelled, validation"],
    ),
    ("splits.test", 3, ["toy", "'test'", "`options.splits`"]),
    ("splits", {"test": 4}, ["toy", "lacks 'train'"]),
    ("shape", [2, 2], ["toy.shape", "missing"]),
    ("shape", None, ["toy", "'images'", "`shape`"]),
    ("classes", ["a", "a"], ["toy", "class 'a' is listed twice"]),
    ("n_classes", 3, ["toy", "`n_classes` is 3", "2"]),
    ("name", "toy", ["toy.name", "remove"]),
    ("homepage", "example.org", ["toy.homepage", "'example.org'"]),
    ("options.colour", True, ["toy.options: unknown key 'colour'", "splits"]),
    (
        "options.splits.train.image",
        {},
        ["toy.options.splits.train: unknown key 'image'", "Did you mean 'images'"],
    ),
    (
        "options.splits.train.images.file",
        "u.npz",
        ["toy.options", "unknown file 'u.npz'", "t.npz"],
    ),
    ("files.0.bytes", "1 MB", ["toy.files[0].bytes", "'1 MB'", "integer"]),
    ("files.0.sha256", "abc", ["toy.files[0].sha256", "'abc'"]),
    ("files.0.sha256", None, ["toy.files[0]", "'t.npz' has no checksum", "sha256"]),
    ("files.0.urls", [], ["toy.files[0]", "'t.npz' has no `urls`", "note"]),
    ("files.0.urls", ["ftp://x/t.npz"], ["toy.files[0].urls[0]", "ftp://x/t.npz"]),
    ("files.0.name", "../t.npz", ["toy.files[0].name", "../t.npz"]),
    ("files.0.size", 10, ["toy.files[0]: unknown key 'size'", "bytes"]),
]


@pytest.mark.parametrize(("keys", "value", "expected"), MISTAKES, ids=lambda value: str(value)[:30])
def test_mistakes_name_file_key_and_accepted(
    tmp_path: Path, keys: str, value: object, expected: list[str]
) -> None:
    entry = toy()
    put(entry, keys, value)
    path = write(tmp_path, entry)
    with pytest.raises(UserError) as caught:
        load_catalogue(path)
    for text in [str(path), *expected]:
        assert text in str(caught.value)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    entry = toy()
    del entry["licence"]
    with pytest.raises(UserError, match=r"toy\.licence: this key is missing"):
        load_catalogue(write(tmp_path, entry))


def test_an_unused_file_is_refused(tmp_path: Path) -> None:
    entry = toy()
    entry["files"].append({**entry["files"][0], "name": "extra.npz"})
    with pytest.raises(UserError, match=r"'extra\.npz' is not named in `options`"):
        load_catalogue(write(tmp_path, entry))


def test_several_mistakes_come_in_one_message(tmp_path: Path) -> None:
    entry = toy()
    entry["kind"], entry["shape"] = "image", "8x8"
    with pytest.raises(UserError, match="2 mistakes") as caught:
        load_catalogue(write(tmp_path, entry))
    assert "toy.kind" in str(caught.value)
    assert "toy.shape" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", ["line 3", "'a'", "line 1"]),
        ("a:\n  b: 1\n  b: 2\n", ["line 3", "'b'", "line 2"]),
        ("a: [1\nb: 2\n", ["line", "not valid YAML"]),
        ("", ["found nothing"]),
        ("- 1\n", ["found a list"]),
        ("? [1]\n: 2\n", ["line 1", "cannot be a key"]),
        ("a: !!python/object:os.system x\n", ["line 1", "not valid YAML"]),
    ],
)
def test_yaml_mistakes_name_the_line(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_yaml(path)
    for part in [str(path), *expected]:
        assert part in str(caught.value)


def test_yaml_absent_and_not_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        load_yaml(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(UserError, match="not UTF-8"):
        load_yaml(tmp_path / "latin.yaml")


def test_yaml_reads_numbers_as_researchers_write_them_and_keeps_merge_keys(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("lr: 1e-3\nsteps: 10\nname: e3\nbase: &b {x: 1, y: 2}\nmore: {<<: *b, y: 3}\n")
    assert load_yaml(path) == {
        "lr": 0.001,
        "steps": 10,
        "name": "e3",
        "base": {"x": 1, "y": 2},
        "more": {"x": 1, "y": 3},
    }


class Leaf(BaseModel):
    """A nested model."""

    model_config = ConfigDict(extra="forbid")
    rate: float = 0.1


class Tree(BaseModel):
    """A model with models in a mapping and in an optional field."""

    model_config = ConfigDict(extra="forbid")
    leaves: dict[str, Leaf] = {}
    top: Leaf | None = None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            {"leaves": {"a": {"rat": 1}}},
            "f.yaml: base.leaves.a: unknown key 'rat'. Did you mean 'rate'? Accepted: rate.",
        ),
        ({"top": {"rate": "x"}}, "f.yaml: base.top.rate: 'x' is not accepted."),
        (
            {"tops": 1},
            "f.yaml: base: unknown key 'tops'. Did you mean 'top'? Accepted: leaves, top.",
        ),
        ([], "f.yaml: base: [] is not accepted."),
    ],
)
def test_validate_tells_the_whole_key_path(data: object, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(Tree, data, "f.yaml", at="base")
    assert expected in str(caught.value)
