"""Relabelled data, held-out parts and shared files: what `prepare` and the catalogue make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_prepare import toy

from winnow.data.dataset import Dataset
from winnow.data.prepare import prepare
from winnow.errors import UserError
from winnow.plan.catalogue import DatasetEntry, load_catalogue

RNG = np.random.default_rng(0)
TRAIN = np.arange(100) % 3
IMAGES = RNG.integers(0, 256, size=(100, 2, 3, 1), dtype=np.uint8)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    path = tmp_path / "t.npz"
    arrays = {"x_train": IMAGES, "y_train": TRAIN, "human": (TRAIN + (np.arange(100) % 5 == 0)) % 3}
    np.savez(path, **arrays, x_test=IMAGES[:4], y_test=TRAIN[:4])  # type: ignore[arg-type]
    return {"t.npz": path}


def made(entry: DatasetEntry, files: dict[str, Path], out: Path, holdout: int = 0, **limits: int) -> Dataset:
    out.mkdir()
    prepare(entry, files, out, limits, seed=4, holdout=holdout)
    return Dataset.open(out)


def test_published_labels_replace_the_training_labels_alone(files: dict[str, Path], tmp_path: Path) -> None:
    data = made(toy(relabel={"file": "t.npz", "array": "human"}), files, tmp_path / "out")
    assert (data.labels("train") != TRAIN).mean() == 0.2
    assert (data.clean_labels("train") == TRAIN).all()
    assert (data.labels("test") == TRAIN[:4]).all()
    with pytest.raises(UserError, match="no clean_labels"):
        data.clean_labels("test")


def test_symmetric_noise_has_its_exact_share_and_never_the_same_class(
    files: dict[str, Path], tmp_path: Path
) -> None:
    data = made(toy(relabel={"symmetric": 0.37}), files, tmp_path / "out")
    assert (data.labels("train") != data.clean_labels("train")).sum() == 37
    again = made(toy(relabel={"symmetric": 0.37}), files, tmp_path / "again")
    assert (again.labels("train") == data.labels("train")).all()


def test_limits_keep_labels_images_and_clean_labels_together(files: dict[str, Path], tmp_path: Path) -> None:
    data = made(toy(relabel={"file": "t.npz", "array": "human"}), files, tmp_path / "out", train=30)
    rows = [int(name.rsplit("/", 1)[1]) for name in data.ids("train")]
    assert (data.clean_labels("train") == TRAIN[rows]).all()
    assert (data.images("train") == IMAGES[rows]).all()


def test_holdout_is_stratified_and_disjoint(files: dict[str, Path], tmp_path: Path) -> None:
    data = made(toy(), files, tmp_path / "out", holdout=30, train=50)
    assert (data.n("train"), data.n("validation"), data.n("test")) == (50, 30, 4)
    train, held = (
        {int(name.rsplit("/", 1)[1]) for name in data.ids(split)} for split in ("train", "validation")
    )
    assert not train & held
    assert np.bincount(data.labels("validation")).tolist() == [10, 10, 10]
    assert (data.images("validation") == IMAGES[sorted(held)]).all()
    assert (data.labels("validation") == TRAIN[sorted(held)]).all()
    whole = made(toy(), files, tmp_path / "whole", holdout=30)
    assert whole.n("train") == 70 and whole.ids("validation") == data.ids("validation")


@pytest.mark.parametrize(
    ("relabel", "message"),
    [
        ({"file": "t.npz", "array": "y_test"}, "4 new labels for 100"),
        ({"file": "t.npz", "array": "nothing"}, "nothing"),
    ],
)
def test_wrong_labels_are_refused(
    relabel: dict[str, str], message: str, files: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        made(toy(relabel=relabel), files, tmp_path / "out")


@pytest.mark.parametrize("relabel", [{}, {"file": "t.npz", "symmetric": 0.1}, {"symmetric": 1.0}])
def test_relabel_has_one_source(relabel: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="relabel"):
        toy(relabel=relabel)


CATALOGUE = """
first: &entry
  title: First
  kind: images
  licence: MIT
  homepage: https://example.org
  reader: npy
  options:
    splits:
      train: {images: {file: a.npy}, labels: {file: b.npy}}
  splits: {train: 10}
  shape: [2, 2, 1]
  n_classes: 2
  files:
    - {name: a.npy, bytes: 1, sha256: "SHA", note: made here}
    - {name: b.npy, bytes: 1, sha256: "SHA", note: made here}
second:
  <<: *entry
  files:
    - {name: a.npy, of: OF}
    - {name: NAME, of: first}
""".replace("SHA", "0" * 64)


def catalogue(folder: Path, of: str = "first", name: str = "b.npy") -> dict[str, DatasetEntry]:
    path = folder / "datasets.yaml"
    path.write_text(CATALOGUE.replace("OF", of).replace("NAME", name))
    return load_catalogue(path)


def test_a_shared_file_is_described_once(tmp_path: Path) -> None:
    found = catalogue(tmp_path)
    first, second = (found[name].files for name in ("first", "second"))
    assert [file.of for file in first] == [None, None]
    assert [file.of for file in second] == ["first", "first"]
    assert found["second"].content()["files"] == found["first"].content()["files"]


@pytest.mark.parametrize("wrong", [{"of": "third"}, {"of": "second"}, {"name": "c.npy"}])
def test_a_shared_file_must_be_there(wrong: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Accepted"):
        catalogue(tmp_path, **wrong)
