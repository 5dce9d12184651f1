"""Prepared datasets: checks, exact stratified limits, and what `Dataset` gives back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from winnow.data.dataset import Dataset
from winnow.data.download import fetch
from winnow.data.prepare import channel_statistics, prepare
from winnow.data.splitwriter import stratified_rows
from winnow.errors import UserError
from winnow.plan.catalogue import DatasetEntry, load_catalogue

ROOT = Path(__file__).parents[2]
CATALOGUE = load_catalogue(ROOT / "datasets.yaml")
MIRROR = os.environ.get("WINNOW_MIRROR")


def toy(**changes: Any) -> DatasetEntry:
    """Return an entry with 100 training and 4 test images in t.npz."""
    parts = {
        split: {
            "images": {"file": "t.npz", "array": f"x_{split}"},
            "labels": {"file": "t.npz", "array": f"y_{split}"},
        }
        for split in ("train", "test")
    }
    fields = {
        "name": "toy",
        "title": "Toy",
        "kind": "images",
        "licence": "MIT",
        "homepage": "https://example.org",
        "reader": "npy",
        "options": {"splits": parts},
        "splits": {"train": 100, "test": 4},
        "shape": [2, 3, 1],
        "classes": ["a", "b", "c"],
        "files": [
            {
                "name": "t.npz",
                "bytes": 1,
                "sha256": "0" * 64,
                "note": "made by this test",
            }
        ],
    }
    return DatasetEntry.model_validate(fields | changes)


def arrays(**changes: Any) -> dict[str, Any]:
    """Return what t.npz holds: 60 examples of a, 30 of b and 10 of c, and image k full of k."""
    images = np.repeat(np.arange(100, dtype=np.uint8), 6).reshape(100, 2, 3, 1)
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [60, 30, 10]))
    return {
        "x_train": images,
        "y_train": labels,
        "x_test": images[:4],
        "y_test": labels[:4],
    } | changes


def prepared(folder: Path, entry: DatasetEntry, content: dict[str, Any], **arguments: Any) -> Dataset:
    """Prepare the toy dataset and open it."""
    np.savez(folder / "t.npz", **content)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    prepare(entry, {"t.npz": folder / "t.npz"}, out, **arguments)
    return Dataset.open(out)


def test_a_whole_dataset(tmp_path: Path) -> None:
    content = arrays()
    data = prepared(tmp_path, toy(), content)
    assert np.array_equal(data.images("train"), content["x_train"])
    assert np.array_equal(data.labels("test"), content["y_test"])
    assert isinstance(data.images("train"), np.memmap)
    assert data.images("train").flags.writeable is False
    assert data.labels("train").dtype == np.int64
    assert data.ids("train")[:2] == ["toy/train/00", "toy/train/01"]
    assert (data.n("train"), data.n("test"), data.splits) == (100, 4, ("train", "test"))
    assert (data.shape, data.classes, data.kind) == (
        (2, 3, 1),
        ("a", "b", "c"),
        "images",
    )
    assert data.mean == pytest.approx([content["x_train"].mean() / 255])
    assert data.std == pytest.approx([content["x_train"].std() / 255])


def test_statistics_are_those_of_floating_point_per_channel() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 5, 7, 3), dtype=np.uint8)
    mean, std = channel_statistics(images)
    assert mean == pytest.approx(images.mean(axis=(0, 1, 2)) / 255, abs=1e-12)
    assert std == pytest.approx(images.std(axis=(0, 1, 2)) / 255, abs=1e-12)


def test_a_limit_is_exact_stratified_and_keeps_order_and_ids(tmp_path: Path) -> None:
    content = arrays()
    data = prepared(tmp_path, toy(), content, limits={"train": 25}, seed=3)
    rows = [int(name.rsplit("/", 1)[1]) for name in data.ids("train")]
    assert len(rows) == data.n("train") == 25
    assert rows == sorted(set(rows))
    assert np.array_equal(data.images("train"), content["x_train"][rows])
    assert np.array_equal(data.labels("train"), content["y_train"][rows])
    assert sorted(np.bincount(data.labels("train"))) == [2, 8, 15]
    assert data.n("test") == 4
    assert data.mean == pytest.approx([content["x_train"][rows].mean() / 255])
    assert {path.name for path in (tmp_path / "out").glob("*.npy")} == {
        "train_images.npy",
        "train_labels.npy",
        "test_images.npy",
        "test_labels.npy",
    }


def test_a_limit_follows_the_seed(tmp_path: Path) -> None:
    chosen = []
    for number, seed in enumerate([0, 0, 1]):
        (tmp_path / str(number)).mkdir()
        chosen.append(
            prepared(tmp_path / str(number), toy(), arrays(), limits={"train": 25}, seed=seed).ids("train")
        )
    assert chosen[0] == chosen[1]
    assert chosen[0] != chosen[2]


@pytest.mark.parametrize("keep", [1, 2, 3, 7, 50, 99, 100])
def test_quotas_are_largest_remainders(keep: int) -> None:
    labels = np.repeat([0, 1, 2, 3], [50, 30, 13, 7])
    rows = stratified_rows(labels, 100, keep, np.random.default_rng(0))
    assert len(rows) == len(set(rows)) == keep
    ideal = np.bincount(labels) * keep / 100
    assert np.abs(np.bincount(labels[rows], minlength=4) - ideal).max() < 1


def test_examples_of_a_class_are_equally_likely() -> None:
    labels = np.repeat([0, 1], [8, 2])
    hits = np.zeros(10)
    for seed in range(2000):
        hits[stratified_rows(labels, 10, 5, np.random.default_rng(seed))] += 1
    assert hits.sum() == 10000
    assert np.abs(hits / 2000 - 0.5).max() < 0.06  # five standard errors


def test_without_labels_a_limit_is_a_random_part() -> None:
    rows = stratified_rows(None, 100, 40, np.random.default_rng(0))
    assert len(set(rows)) == 40
    assert rows.max() < 100


def test_the_pool_joins_splits_in_the_order_asked_for(tmp_path: Path) -> None:
    content = arrays()
    entry = toy()
    options = {
        "splits": {
            **entry.options["splits"],
            "unlabelled": {"images": {"file": "t.npz", "array": "x_test"}},
        }
    }
    entry = toy(options=options, splits={"train": 100, "test": 4, "unlabelled": 4})
    data = prepared(tmp_path, entry, content, pool=("train", "unlabelled"))
    assert data.pool_size == len(data.pool_ids()) == 104
    assert np.array_equal(data.pool_images(), np.concatenate([content["x_train"], content["x_test"]]))
    assert np.array_equal(data.pool_labels(), np.concatenate([content["y_train"], [-1] * 4]))
    assert not data.has_labels("unlabelled")
    with pytest.raises(UserError, match="no labels for split 'unlabelled'"):
        data.labels("unlabelled")


MISTAKES = [
    (
        {"y_train": np.repeat([0, 3], [97, 3])},
        {},
        r"toy, split train, example 97: label 3 is out of range.*0 to 2",
    ),
    (
        {"y_train": np.repeat([-1, 0], [1, 99])},
        {},
        "example 0: label -1 is out of range",
    ),
    (
        {},
        {"splits": {"train": 101, "test": 4}},
        "hold 100 examples, datasets.yaml states 101",
    ),
    ({}, {"splits": {"train": 99, "test": 4}}, "more than the 99 examples"),
    ({}, {"splits": {"train": 100}}, "unknown split 'test'.*Accepted: train"),
    (
        {},
        {"shape": [3, 2, 1]},
        r"images are uint8 \(2, 3, 1\), datasets.yaml states uint8 \(3, 2, 1\)",
    ),
    ({}, {"classes": []}, "give `classes` or `n_classes`"),
]


@pytest.mark.parametrize(("content", "changes", "message"), MISTAKES)
def test_data_that_are_not_what_the_entry_states(
    tmp_path: Path, content: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, toy(**changes), arrays(**content))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limits": {"train": 101}}, r"limits\.train: 101 .*1 to 100"),
        ({"limits": {"train": 0}}, r"limits\.train: 0 "),
        ({"limits": {"dev": 3}}, "limits: unknown split 'dev'.*test, train"),
        ({"pool": ("unlabelled",)}, "pool: unknown split 'unlabelled'"),
    ],
)
def test_impossible_requests(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, toy(), arrays(), **arguments)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"t\.npz' is missing"):
        prepare(toy(), {"t.npz": tmp_path / "t.npz"}, tmp_path)


def text_entry(**options: Any) -> DatasetEntry:
    """Return an entry with three texts in t.jsonl."""
    return toy(
        kind="text",
        shape=None,
        reader="jsonl",
        options={"splits": {"train": {"file": "t.jsonl"}}} | options,
        splits={"train": 3},
        files=[
            {
                "name": "t.jsonl",
                "bytes": 1,
                "sha256": "0" * 64,
                "note": "made by this test",
            }
        ],
    )


def prepared_text(
    folder: Path, lines: list[dict[str, Any]], entry: DatasetEntry, **arguments: Any
) -> Dataset:
    """Prepare texts and open them."""
    (folder / "t.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    (folder / "out").mkdir()
    prepare(entry, {"t.jsonl": folder / "t.jsonl"}, folder / "out", **arguments)
    return Dataset.open(folder / "out")


def test_tables_with_published_ids_and_a_limit(tmp_path: Path) -> None:
    lines = [{"key": f"k{k}", "text": f"text {k}", "y": k} for k in range(3)]
    data = prepared_text(
        tmp_path,
        lines,
        text_entry(id="key", label="y", columns=["text"]),
        limits={"train": 2},
    )
    keys = [name.removeprefix("toy/train/k") for name in data.ids("train")]
    assert len(keys) == 2
    assert data.table("train")["text"].tolist() == [f"text {key}" for key in keys]
    assert data.labels("train").tolist() == [int(key) for key in keys]
    assert (data.shape, data.mean) == ((), ())
    with pytest.raises(UserError, match="no images for split 'train'"):
        data.images("train")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"key": "k", "text": "a"}] * 3, "two examples have the same id"),
        (
            [
                {"key": "k0", "text": "a"},
                {"key": "k1", "text": {"b": 1}},
                {"key": "k2", "text": 3},
            ],
            "mixes types",
        ),
    ],
)
def test_mistakes_in_tables(tmp_path: Path, lines: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared_text(tmp_path, lines, text_entry(id="key"))


def test_a_full_disk_is_a_readable_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(UserError, match="no space left"):
        prepared(tmp_path, toy(), arrays())


def test_opening_what_is_not_a_prepared_dataset(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no prepared dataset here"):
        Dataset.open(tmp_path)
    data = prepared(tmp_path, toy(), arrays())
    with pytest.raises(UserError, match="unknown split 'dev'"):
        data.images("dev")
    (data.folder / "train_images.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match=r"train_images\.npy: damaged"):
        data.images("train")
    np.save(data.folder / "train_labels.npy", np.zeros(7, dtype=np.int64))
    with pytest.raises(UserError, match=r"holds 7 examples, dataset\.json states 100"):
        data.labels("train")
    (data.folder / "train_ids.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"train_ids\.parquet: damaged"):
        data.ids("train")
    (data.folder / "dataset.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset\.json: damaged"):
        Dataset.open(data.folder)


def test_digits(tmp_path: Path) -> None:
    prepare(CATALOGUE["digits"], {}, tmp_path, {"train": 200}, seed=1)
    data = Dataset.open(tmp_path)
    assert (data.n("train"), data.n("test")) == (200, 360)
    assert data.images("train").shape == (200, 8, 8, 1)
    assert set(np.bincount(data.labels("train"))) <= {19, 20, 21}


@pytest.fixture
def real(tmp_path: Path, request: pytest.FixtureRequest) -> Dataset:
    """Fetch a published dataset from the mirror and prepare it."""
    entry = CATALOGUE[request.param]
    files = {file.name: tmp_path / file.name for file in entry.files}
    for file in entry.files:
        report = fetch(entry.name, file, files[file.name], Path(MIRROR or ""), progress=False)
        assert report.source.startswith(str(MIRROR))
    (tmp_path / "out").mkdir()
    prepare(entry, files, tmp_path / "out")
    return Dataset.open(tmp_path / "out")


needs_mirror = pytest.mark.skipif(MIRROR is None, reason="the published files: WINNOW_MIRROR names no mirror")


@needs_mirror
@pytest.mark.parametrize("real", ["fashion_mnist"], indirect=True)
def test_fashion_mnist_as_published(real: Dataset) -> None:
    assert np.array_equal(np.bincount(real.labels("train")), [6000] * 10)
    assert np.array_equal(np.bincount(real.labels("test")), [1000] * 10)
    assert real.mean == pytest.approx([0.2860], abs=5e-5)
    assert real.std == pytest.approx([0.3530], abs=5e-5)
    assert [real.classes[label] for label in real.labels("train")[:3]] == [
        "Ankle boot",
        "T-shirt/top",
        "T-shirt/top",
    ]


@needs_mirror
@pytest.mark.parametrize("real", ["cifar10_jpg"], indirect=True)
def test_cifar10_jpg_as_published(real: Dataset) -> None:
    assert np.array_equal(np.bincount(real.labels("train")), [5000] * 10)
    names = [real.classes[label] for label in real.labels("train")[:5]]
    assert names == ["frog", "truck", "truck", "deer", "automobile"]
    # Published statistics of the original pixels; JPEG keeps the mean and loses some contrast.
    assert real.mean == pytest.approx([0.4914, 0.4822, 0.4465], abs=5e-4)
    assert real.std == pytest.approx([0.2470, 0.2435, 0.2616], abs=3e-3)
    assert isinstance(real.ids("test"), list)
    assert pandas.Index(real.ids("train")).is_unique


def code_blocks(language: str) -> list[str]:
    """Return the code blocks of docs/add-a-dataset.md in a language."""
    page = (ROOT / "docs" / "add-a-dataset.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def test_following_the_page_adds_a_dataset(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", code_blocks("python")[0]], cwd=tmp_path, check=True)
    command = [
        sys.executable,
        str(ROOT / "scripts" / "fingerprint.py"),
        "my-mirror/bars/bars.npz",
    ]
    printed = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    facts = dict(re.findall(r"(bytes|sha256): (\S+)", printed))
    entry_text = code_blocks("yaml")[0].replace("BYTES", facts["bytes"]).replace("SHA256", facts["sha256"])
    (tmp_path / "datasets.yaml").write_text(entry_text)

    entry = load_catalogue(tmp_path / "datasets.yaml")["bars"]
    path = tmp_path / "results" / "bars.npz"
    fetch("bars", entry.files[0], path, tmp_path / "my-mirror", progress=False)
    (tmp_path / "out").mkdir()
    prepare(entry, {"bars.npz": path}, tmp_path / "out")

    data = Dataset.open(tmp_path / "out")
    assert (data.n("train"), data.n("test"), data.ids("train")[0]) == (
        400,
        100,
        "bars/train/000",
    )
    horizontal = data.images("train")[data.labels("train") == data.classes.index("horizontal")]
    assert ((horizontal == 255).all(axis=2)).any(axis=(1, 2)).all()


@needs_mirror
@pytest.mark.parametrize("real", ["emoji"], indirect=True)
def test_emoji_differ_in_style_alone(real: Dataset) -> None:
    train, seen, unseen = (real.table(split) for split in ("train", "validation", "test"))
    assert not set(train["emoji"]) & set(unseen["emoji"])
    assert set(seen["emoji"]) == set(unseen["emoji"])
    assert set(unseen["style"]) == {"openmoji"} and "openmoji" not in {*train["style"], *seen["style"]}
    captions = dict(zip(unseen["emoji"], unseen["caption"], strict=True))
    assert (seen["caption"] == seen["emoji"].map(captions)).all()
    assert np.bincount(real.labels("test"), minlength=9).min() > 0
    corners = real.images("train")[:, 0, 0]
    assert (corners == 255).all(axis=1).mean() > 0.8  # transparent in the files


@needs_mirror
@pytest.mark.parametrize("real", ["products"], indirect=True)
def test_products_have_captions_and_white_borders(real: Dataset) -> None:
    train, test = real.table("train"), real.table("test")
    assert not (train["caption"].isna() | (train["caption"] == "")).any()
    assert [real.classes[label] for label in real.labels("test")] == list(test["articleType"])
    assert len(set(real.ids("train"))) == len(train)
    assert (real.images("train")[::50, :, [0, 7, 56, 63]] == 255).all()
    assert not (real.images("train")[::50, :, 8:56] == 255).all()
