"""Readers on small files built in the exact published formats."""

from __future__ import annotations

import gzip
import io
import json
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas
import pytest
from PIL import Image
from pydantic import ValidationError

from winnow.data.batch import Batch
from winnow.data.pictures import decode
from winnow.data.prepare import prepare
from winnow.data.readers import image_archive, webdataset
from winnow.data.tables import TableOptions
from winnow.errors import UserError
from winnow.plan.catalogue import DatasetEntry, load_catalogue, reader_module

ROOT = Path(__file__).parents[2]
CATALOGUE = load_catalogue(ROOT / "datasets.yaml")

Array = npt.NDArray[Any]


def published(name: str, **changes: Any) -> DatasetEntry:
    """Return the catalogue's entry, checked again with changes (smaller splits)."""
    return DatasetEntry.model_validate(CATALOGUE[name].model_dump() | changes)


def toy(reader: str, options: dict[str, Any], **changes: Any) -> DatasetEntry:
    """Return an entry for a reader's own test."""
    fields = {
        "name": "toy",
        "title": "Toy",
        "kind": "images",
        "licence": "MIT",
        "homepage": "https://example.org",
        "reader": reader,
        "options": options,
        "splits": {"train": 4},
        "shape": [4, 6, 3],
        "classes": ["a", "b"],
    }
    return DatasetEntry.model_validate(fields | changes)


def read(entry: DatasetEntry, **files: Path) -> dict[str, Batch]:
    """Return each split as one batch in row order; the files are known by the names of their paths."""
    paths = {path.name: path for path in files.values()}
    batches: dict[str, list[Batch]] = {}
    for batch in reader_module(entry.reader).read(entry, paths):
        batches.setdefault(batch.split, []).append(batch)
    return {split: joined(parts) for split, parts in batches.items()}


def equal(found: Array | None, expected: Any) -> bool:
    """Return whether an array is there and holds what is expected."""
    return found is not None and np.array_equal(found, expected)


def joined(parts: list[Batch]) -> Batch:
    """Join batches and put the rows in order."""

    def join(values: list[Array | None]) -> Array | None:
        present = [value for value in values if value is not None]
        return np.concatenate(present) if present else None

    rows = join([part.rows for part in parts])
    order = np.argsort(rows) if rows is not None else slice(None)
    images, labels = (
        join([part.images for part in parts]),
        join([part.labels for part in parts]),
    )
    tables = [part.table for part in parts if part.table is not None]
    ids = np.array([name for part in parts for name in part.ids], dtype=object)
    return Batch(
        parts[0].split,
        images=None if images is None else images[order],
        labels=None if labels is None else labels[order],
        table=pandas.concat(tables).iloc[order].reset_index(drop=True) if tables else None,
        ids=ids[order].tolist() if len(ids) else [],
        classes=parts[0].classes,
    )


def pixels(n: int, height: int, width: int, channels: int, seed: int = 0) -> Array:
    """Return random images, (n, h, w, c) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, channels), dtype=np.uint8)


def tar(path: Path, members: dict[str, bytes], mode: str = "w:gz") -> Path:
    """Write a tar archive with its folders, as the published ones have them."""
    with tarfile.open(path, mode) as target:  # type: ignore[call-overload]
        for folder in dict.fromkeys(name.rsplit("/", 1)[0] for name in members):
            info = tarfile.TarInfo(folder)
            info.type = tarfile.DIRTYPE
            target.addfile(info)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            target.addfile(info, io.BytesIO(content))
    return path


def encoded(image: Array, kind: str) -> bytes:
    """Return an image file's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, kind)
    return buffer.getvalue()


# idx: Fashion-MNIST


def idx(array: Array) -> bytes:
    """Return an array in IDX format."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def fashion(tmp_path: Path) -> tuple[dict[str, Path], dict[str, Array]]:
    """Return four files as published, with few images, and what they hold."""
    held = {
        "train-images-idx3-ubyte.gz": pixels(5, 28, 28, 1).squeeze(-1),
        "train-labels-idx1-ubyte.gz": np.array([9, 0, 0, 3, 2], dtype=np.uint8),
        "t10k-images-idx3-ubyte.gz": pixels(2, 28, 28, 1, seed=1).squeeze(-1),
        "t10k-labels-idx1-ubyte.gz": np.array([1, 7], dtype=np.uint8),
    }
    for name, array in held.items():
        (tmp_path / name).write_bytes(gzip.compress(idx(array)))
    return {name: tmp_path / name for name in held}, held


def test_fashion_mnist(fashion: tuple[dict[str, Path], dict[str, Array]]) -> None:
    files, held = fashion
    splits = read(published("fashion_mnist"), **files)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        assert equal(
            splits[split].images,
            held[f"{prefix}-images-idx3-ubyte.gz"][..., np.newaxis],
        )
        assert equal(splits[split].labels, held[f"{prefix}-labels-idx1-ubyte.gz"])
    assert splits["train"].labels is not None
    assert splits["train"].labels.dtype == np.int64


def test_idx_without_compression(tmp_path: Path) -> None:
    images, labels = pixels(4, 4, 6, 1), np.array([0, 1, 1, 0], dtype=np.uint8)
    (tmp_path / "x").write_bytes(idx(images.squeeze(-1)))
    (tmp_path / "y").write_bytes(idx(labels))
    entry = toy("idx", {"splits": {"train": {"images": "x", "labels": "y"}}})
    assert equal(read(entry, x=tmp_path / "x", y=tmp_path / "y")["train"].images, images)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: gzip.compress(gzip.decompress(raw)[:-1]), "ends 1 bytes early"),
        (lambda raw: raw[: len(raw) // 2], "damaged"),
        (lambda raw: b"<html></html>", "damaged"),
        (
            lambda raw: gzip.compress(b"\0\0\x0d" + gzip.decompress(raw)[3:]),
            "type code 0x0d",
        ),
        (lambda raw: gzip.compress(b""), "ends 4 bytes early"),
    ],
)
def test_damaged_idx(
    fashion: tuple[dict[str, Path], dict[str, Array]],
    damage: Callable[[bytes], bytes],
    message: str,
) -> None:
    files, _ = fashion
    path = files["train-images-idx3-ubyte.gz"]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=rf"train-images-idx3-ubyte\.gz.*{message}"):
        read(published("fashion_mnist"), **files)


def test_idx_with_fewer_labels_than_images(
    fashion: tuple[dict[str, Path], dict[str, Array]],
) -> None:
    files, _ = fashion
    files["train-labels-idx1-ubyte.gz"].write_bytes(gzip.compress(idx(np.zeros(4, dtype=np.uint8))))
    with pytest.raises(UserError, match="5 images but 4 labels"):
        read(published("fashion_mnist"), **files)


# packed_binary: CIFAR-10, CIFAR-100, STL-10


def cifar_records(images: Array, *label_columns: Array) -> bytes:
    """Return records of label bytes and 3,072 pixels: red, green, blue, each row by row."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.column_stack([*label_columns, planes]).astype(np.uint8).tobytes()


CIFAR10_CLASSES = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n"


def cifar10(tmp_path: Path) -> tuple[Path, Array, Array]:
    """Return an archive like the official one, in which the batches are not in order either."""
    images, labels = pixels(12, 32, 32, 3), np.arange(12) % 10
    parts = {f"data_batch_{k + 1}.bin": slice(2 * k, 2 * k + 2) for k in range(5)} | {
        "test_batch.bin": slice(10, 12)
    }
    order = [
        "data_batch_1.bin",
        "batches.meta.txt",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "test_batch.bin",
    ]
    order += ["readme.html", "data_batch_5.bin", "data_batch_2.bin"]
    members = {}
    for name in order:
        text = CIFAR10_CLASSES if name == "batches.meta.txt" else "<html></html>"
        content = cifar_records(images[parts[name]], labels[parts[name]]) if name in parts else text.encode()
        members[f"cifar-10-batches-bin/{name}"] = content
    return tar(tmp_path / "cifar-10-binary.tar.gz", members), images, labels


def test_cifar10(tmp_path: Path) -> None:
    path, images, labels = cifar10(tmp_path)
    splits = read(published("cifar10"), archive=path)
    for split, part in (("train", slice(0, 10)), ("test", slice(10, 12))):
        assert equal(splits[split].images, images[part])
        assert equal(splits[split].labels, labels[part])
    assert splits["train"].classes == CATALOGUE["cifar10"].classes


def test_cifar100_takes_the_fine_label(tmp_path: Path) -> None:
    images, fine, coarse = (
        pixels(6, 32, 32, 3),
        np.array([99, 3, 50, 7, 0, 98]),
        np.array([19, 1, 2, 3, 4, 5]),
    )
    names = "".join(f"class{k}\n" for k in range(100)).encode()
    path = tar(
        tmp_path / "cifar-100-binary.tar.gz",
        {
            "cifar-100-binary/coarse_label_names.txt": b"aquatic_mammals\n",
            "cifar-100-binary/train.bin": cifar_records(images[:4], coarse[:4], fine[:4]),
            "cifar-100-binary/fine_label_names.txt": names,
            "cifar-100-binary/test.bin": cifar_records(images[4:], coarse[4:], fine[4:]),
        },
    )
    splits = read(published("cifar100"), archive=path)
    assert equal(splits["train"].labels, fine[:4])
    assert equal(splits["test"].images, images[4:])
    assert len(splits["train"].classes) == 100

    entry = published("cifar100", options=CATALOGUE["cifar100"].options | {"label_at": 0})
    assert equal(read(entry, archive=path)["train"].labels, coarse[:4])


def stl10(tmp_path: Path, labels: bytes = bytes([1, 10, 3])) -> tuple[Path, Array]:
    """Return an archive like the official one: channels in column-major order, labels from 1."""
    images = pixels(9, 96, 96, 3)
    packed = images.transpose(0, 3, 2, 1)
    names = "airplane\nbird\ncar\ncat\ndeer\ndog\nhorse\nmonkey\nship\ntruck\n"
    members = {
        "stl10_binary/test_X.bin": packed[3:5].tobytes(),
        "stl10_binary/test_y.bin": bytes([2, 2]),
        "stl10_binary/train_X.bin": packed[:3].tobytes(),
        "stl10_binary/train_y.bin": labels,
        "stl10_binary/unlabeled_X.bin": packed[5:].tobytes(),
        "stl10_binary/class_names.txt": names.encode(),
        "stl10_binary/fold_indices.txt": b"0 1\n",
    }
    return tar(tmp_path / "stl10_binary.tar.gz", members), images


def test_stl10(tmp_path: Path) -> None:
    path, images = stl10(tmp_path)
    splits = read(published("stl10"), archive=path)
    assert equal(splits["train"].images, images[:3])
    assert equal(splits["test"].images, images[3:5])
    assert equal(splits["unlabelled"].images, images[5:])
    assert equal(splits["train"].labels, [0, 9, 2])
    assert splits["unlabelled"].labels is None


def test_stl10_with_a_label_too_few(tmp_path: Path) -> None:
    path, _ = stl10(tmp_path, labels=bytes([1, 2]))
    with pytest.raises(UserError, match="split train: 3 images but 2 labels"):
        read(published("stl10"), archive=path)


def test_a_batch_of_odd_size_is_refused(tmp_path: Path) -> None:
    path, images, labels = cifar10(tmp_path)
    names = [f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]
    content = cifar_records(images[:2], labels[:2])
    members = {f"cifar-10-batches-bin/{name}": content for name in names}
    members["cifar-10-batches-bin/batches.meta.txt"] = CIFAR10_CLASSES.encode()
    members["cifar-10-batches-bin/data_batch_3.bin"] = content[:-7]
    tar(path, members)
    with pytest.raises(UserError, match=r"data_batch_3\.bin' has 6139 bytes, not a multiple of 3073"):
        read(published("cifar10"), archive=path)


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path, *_ = cifar10(tmp_path)
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(UserError, match=r"cifar-10-binary\.tar\.gz.*damaged"):
        read(published("cifar10"), archive=path)


def test_an_archive_without_a_batch_is_refused(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "cifar-10-binary.tar.gz",
        {"cifar-10-batches-bin/batches.meta.txt": CIFAR10_CLASSES.encode()},
    )
    with pytest.raises(UserError, match=r"no member 'cifar-10-batches-bin/data_batch_1\.bin'"):
        read(published("cifar10"), archive=path)


# image_archive: Tiny-ImageNet, CIFAR-10 as JPEG


def flat(value: int, size: int, channels: int = 3) -> Array:
    """Return a plain image, which JPEG keeps to within a level or two."""
    return np.full((size, size, channels), value, dtype=np.uint8)


def tiny_imagenet(tmp_path: Path, **changes: bytes) -> Path:
    """Return an archive like the official one, with two classes; one training image is grey, as some are."""
    root = "tiny-imagenet-200"
    notes = "val_0.JPEG\tn01443537\t0\t32\t44\t62\nval_1.JPEG\tn02124075\t1\t2\t3\t4\n"
    members = {
        f"{root}/wnids.txt": b"n02124075\nn01443537\n",
        f"{root}/words.txt": b"n02124075\tEgyptian cat\nn01443537\tgoldfish\n",
        f"{root}/train/n01443537/n01443537_boxes.txt": b"n01443537_0.JPEG\t0\t10\t63\t58\n",
        f"{root}/train/n01443537/images/n01443537_0.JPEG": encoded(flat(10, 64), "JPEG"),
        f"{root}/train/n01443537/images/n01443537_1.JPEG": encoded(flat(20, 64, 1), "JPEG"),
        f"{root}/train/n02124075/images/n02124075_0.JPEG": encoded(flat(30, 64), "JPEG"),
        f"{root}/val/val_annotations.txt": notes.encode(),
        f"{root}/val/images/val_1.JPEG": encoded(flat(50, 64), "JPEG"),
        f"{root}/val/images/val_0.JPEG": encoded(flat(40, 64), "JPEG"),
        f"{root}/test/images/test_0.JPEG": encoded(flat(60, 64), "JPEG"),
    }
    path = tmp_path / "tiny-imagenet-200.zip"
    with zipfile.ZipFile(path, "w") as target:
        target.mkdir(f"{root}/train/n01443537")
        for name, content in (members | {f"{root}/{key}": value for key, value in changes.items()}).items():
            target.writestr(name, content)
    return path


def means(batch: Batch) -> list[int]:
    """Return the grey level of each plain image."""
    assert batch.images is not None
    return [int(value) for value in np.rint(batch.images.mean(axis=(1, 2, 3)))]


def test_tiny_imagenet(tmp_path: Path) -> None:
    splits = read(published("tiny_imagenet"), archive=tiny_imagenet(tmp_path))
    assert means(splits["train"]) == [10, 20, 30]
    assert means(splits["test"]) == [40, 50]
    assert equal(splits["train"].labels, [1, 1, 0])
    assert equal(splits["test"].labels, [1, 0])
    assert splits["train"].classes == ("n02124075", "n01443537")
    assert splits["train"].images is not None
    assert splits["train"].images.shape == (3, 64, 64, 3)


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        (
            "val/val_annotations.txt",
            b"val_0.JPEG\tn01443537\n",
            r"gives no label for '.*val_1\.JPEG'",
        ),
        ("val/val_annotations.txt", b"val_0.JPEG n01443537\n", r"line 1: only 1 field"),
        ("wnids.txt", b"n02124075\n", "unknown class 'n01443537'"),
        (
            "train/n01443537/images/n01443537_0.JPEG",
            b"\xff\xd8 no image",
            r"n01443537_0\.JPEG.*cannot be decoded",
        ),
        (
            "train/n01443537/images/n01443537_0.JPEG",
            encoded(flat(1, 64), "JPEG")[:400],
            "cannot be decoded",
        ),
        (
            "train/n01443537/images/n01443537_0.JPEG",
            encoded(flat(1, 32), "JPEG"),
            "32x32 pixels.*states 64x64",
        ),
    ],
)
def test_mistakes_in_tiny_imagenet(tmp_path: Path, member: str, content: bytes, message: str) -> None:
    path = tiny_imagenet(tmp_path, **{member: content})
    with pytest.raises(UserError, match=message):
        read(published("tiny_imagenet"), archive=path)


def test_a_damaged_zip_member_is_refused(tmp_path: Path) -> None:
    path = tiny_imagenet(tmp_path)
    content = path.read_bytes()
    jpeg = encoded(flat(30, 64), "JPEG")
    path.write_bytes(content.replace(jpeg, jpeg[:-20] + bytes(20)))
    with pytest.raises(UserError, match=r"tiny-imagenet-200\.zip.*damaged"):
        read(published("tiny_imagenet"), archive=path)


def cifar10_jpg(tmp_path: Path, labels: list[int]) -> dict[str, Path]:
    """Return a folder of images per class, with level 10 k + 2 j for image j of class k."""
    members = {
        f"{split}/{name}/{j:04d}.jpg": encoded(flat(10 * k + 2 * j, 32), "JPEG")
        for split in ("train", "test")
        for k, name in enumerate(CATALOGUE["cifar10_jpg"].classes[:3])
        for j in range(2)
    }
    np.savez(
        tmp_path / "labels.npz",
        y_train=np.array(labels, np.uint8),
        y_test=np.array([0, 0, 1, 1, 2, 2]),
    )
    archive = tar(tmp_path / "cifar10_jpg.tar.xz", members | {"README.md": b"# images\n"}, "w:xz")
    return {"archive": archive, "labels": tmp_path / "labels.npz"}


def test_cifar10_jpg_is_put_back_into_the_published_order(tmp_path: Path) -> None:
    splits = read(published("cifar10_jpg"), **cifar10_jpg(tmp_path, [2, 0, 1, 1, 2, 0]))
    assert equal(splits["train"].labels, [2, 0, 1, 1, 2, 0])
    assert means(splits["train"]) == [20, 0, 10, 12, 22, 2]
    assert means(splits["test"]) == [0, 2, 10, 12, 20, 22]


def test_an_order_that_does_not_fit_the_folders_is_refused(tmp_path: Path) -> None:
    files = cifar10_jpg(tmp_path, [2, 0, 1, 1, 2, 1])
    with pytest.raises(UserError, match=r"y_train: 1 labels for class 'airplane', but 2 images"):
        read(published("cifar10_jpg"), **files)


def test_folders_alone_give_sorted_classes_and_resizing_is_asked_for(
    tmp_path: Path,
) -> None:
    path = tar(
        tmp_path / "x.tar.gz",
        {
            f"x/{name}/{j}.png": encoded(flat(level, 8), "PNG")
            for j, (name, level) in enumerate([("b", 9), ("a", 4)])
        },
    )
    options = {
        "archive": "x.tar.gz",
        "splits": {"train": {"members": "x/{label}/*.png"}},
    }
    entry = toy("image_archive", options, classes=[], n_classes=2)
    with pytest.raises(UserError, match="resize: true"):
        read(entry, archive=path)
    train = read(
        toy("image_archive", options | {"resize": True}, classes=[], n_classes=2),
        archive=path,
    )["train"]
    assert train.classes == ("a", "b")
    assert means(train) == [4, 9]
    assert train.images is not None
    assert train.images.shape == (2, 4, 6, 3)


def photographs(tmp_path: Path, **changes: str) -> dict[str, Path]:
    """Return an archive of five photographs and the files with their captions, as Flickr's sets have them."""
    levels = {"c": 50, "a": 60, "b": 70, "e": 80, "d": 90}
    images = {f"Images/{name}.jpg": encoded(flat(level, 8), "JPEG") for name, level in levels.items()}
    lines = [
        "image,caption",
        'a.jpg,"one, quoted"',
        "a.jpg,two",
        "b.jpg,three",
        "c.jpg,four",
        "d.jpg,",
        "x.jpg,x",
    ]
    texts = {
        "captions.csv": "\n".join(lines),
        "tokens.txt": 'Images/a.jpg#0\tone, "quoted\na.jpg#1\ttwo\nb.jpg#0\tthree\nc.jpg#0\tfour\n',
        "train.txt": "c.jpg\na.jpg\n",
    } | changes  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return {"archive": tar(tmp_path / "x.tar", images, "w")} | {
        name.split(".")[0]: tmp_path / name for name in texts
    }


COMMAS = {"file": "captions.csv"}
TABS = {"file": "tokens.txt", "delimiter": "\t", "names": ["image", "caption"]}


@pytest.mark.parametrize(("captions", "first"), [(COMMAS, "one, quoted"), (TABS, 'one, "quoted')])
def test_photographs_with_several_captions_each(tmp_path: Path, captions: dict[str, Any], first: str) -> None:
    splits = {"train": {"members": "Images/*.jpg", "part": {"of": 3, "take": [0, 1]}}}
    options = {"archive": "x.tar", "captions": captions, "resize": True, "splits": splits}
    train = read(toy("image_archive", options, kind="pairs", classes=[]), **photographs(tmp_path))["train"]
    assert train.table is not None and train.labels is None
    # Of a, b, c, d, e the part holds a, b, d, e; d and e have no caption.
    assert train.table["caption"].tolist() == [[first, "two"], ["three"]]
    assert means(train) == [60, 70]


def test_a_list_says_which_photographs_a_split_has(tmp_path: Path) -> None:
    options = {
        "archive": "x.tar", "captions": COMMAS, "resize": True,
        "splits": {"train": {"members": "Images/*.jpg", "listed": "train.txt"}},
    }  # fmt: skip
    entry = toy("image_archive", options, kind="pairs", classes=[])
    train = read(entry, **photographs(tmp_path))["train"]
    assert train.table is not None and train.table["caption"].tolist() == [["one, quoted", "two"], ["four"]]
    assert means(train) == [60, 50]
    with pytest.raises(UserError, match=r"train\.txt: lists 'z\.jpg'"):
        read(entry, **photographs(tmp_path, **{"train.txt": "a.jpg\nz.jpg\n"}))
    with pytest.raises(UserError, match=r"captions\.csv, line 2: 3 fields where 2 are expected; quote"):
        read(entry, **photographs(tmp_path, **{"captions.csv": "image,caption\na.jpg,one, two\n"}))
    with pytest.raises(UserError, match=r"captions\.csv: unknown column 'image'"):
        read(entry, **photographs(tmp_path, **{"captions.csv": "picture,caption\n"}))


FLICKR30K = """image_name| comment_number| comment
a.jpg| 0| A dog , running .
a.jpg| 1| A "brown" dog .
b.jpg| 0| A man .
b.jpg| 1   A man with a hat .
c.jpg| 0|
"""
PIPES = {"file": "results.csv", "delimiter": "|", "image": "image_name", "caption": "comment"}


def test_spaces_around_names_and_a_line_without_a_caption(tmp_path: Path) -> None:
    """The form of Flickr30k's results.csv, which has one such line."""
    options = {
        "archive": "x.tar", "captions": PIPES, "resize": True,
        "splits": {"train": {"members": "Images/*.jpg", "part": {"of": 5, "leave": [3]}}},
    }  # fmt: skip
    entry = toy("image_archive", options, kind="pairs", classes=[], splits={"train": 2})
    files = photographs(tmp_path, **{"results.csv": FLICKR30K})
    train = read(entry, **files)["train"]
    assert train.table is not None
    assert train.table["caption"].tolist() == [["A dog , running .", 'A "brown" dog .'], ["A man ."]]
    out = tmp_path / "out"
    out.mkdir()
    prepare(entry, {"x.tar": files["archive"], "results.csv": files["results"]}, out)
    facts = json.loads((out / "dataset.json").read_text())
    assert facts["left_out"] == {"train": {"caption that is empty or lacking": 2, "image without text": 2}}
    files = photographs(tmp_path, **{"results.csv": FLICKR30K + "d.jpg| 0| one | two\n"})
    with pytest.raises(UserError, match=r"results\.csv, line 7: 4 fields where 3 are expected; take it out"):
        read(entry, **files)


KARPATHYS_SPLITS = ["train", "val", "test", "restval", "test"]
KARPATHY: dict[str, Any] = {
    "dataset": "flickr8k",
    "images": [
        {
            "filename": f"{name}.jpg", "imgid": k, "split": split, "sentids": [],
            "sentences": [{"raw": f" {name} {i} .", "tokens": [name], "imgid": k} for i in range(5)],
        }
        for k, (name, split) in enumerate(zip("abcde", KARPATHYS_SPLITS, strict=True))
    ],
}  # fmt: skip
COCO: dict[str, Any] = {
    "info": {"year": 2014},
    "images": [{"id": 10 + k, "file_name": f"{name}.jpg", "height": 8} for k, name in enumerate("abcde")],
    "annotations": [
        {"image_id": 10 + k, "id": 5 * k + i, "caption": f"{name} {i} .\n"}
        for i in range(5) for k, name in enumerate("abcd")
    ],
}  # fmt: skip


def with_json(tmp_path: Path, splits: dict[str, Any], content: Any) -> dict[str, Batch]:
    """Read photographs with captions in a JSON file; the archive is made of a folder as the docs say."""
    files = photographs(tmp_path, **{"captions.json": json.dumps(content)})
    with tarfile.open(files["archive"]) as made:
        made.extractall(tmp_path, filter=lambda member, _: member.replace(mtime=10**9))
    command = [sys.executable, "-m", "zipfile", "-c", "x.zip", "Images/"]
    subprocess.run(command, cwd=tmp_path, check=True)
    options = {"archive": "x.zip", "captions": {"file": "captions.json"}, "resize": True, "splits": splits}
    entry = toy("image_archive", options, kind="pairs", classes=[], splits=dict.fromkeys(splits, 1))
    return read(entry, archive=tmp_path / "x.zip", captions=files["captions"])


def five(names: str) -> list[list[str]]:
    return [[f"{name} {i} ." for i in range(5)] for name in names]


def test_photographs_with_karpathys_splits(tmp_path: Path) -> None:
    splits = {
        name: {"members": "Images/*.jpg", "marked": marks}
        for name, marks in {"train": ["train", "restval"], "validation": ["val"], "test": ["test"]}.items()
    }
    found = with_json(tmp_path, splits, KARPATHY)
    tables = {
        name: batch.table["caption"].tolist() for name, batch in found.items() if batch.table is not None
    }
    assert tables == {"train": five("ad"), "validation": five("b"), "test": five("ce")}
    assert means(found["train"]) == [60, 90]
    splits["test"]["marked"] = ["tests"]
    with pytest.raises(UserError, match=r"captions\.json: images\.split: unknown split 'tests'.*'test'"):
        with_json(tmp_path, splits, KARPATHY)


def test_photographs_with_cocos_annotations(tmp_path: Path) -> None:
    splits = {
        "train": {"members": "Images/*.jpg", "part": {"of": 2, "take": [0]}},
        "test": {"members": "Images/*.jpg", "part": {"of": 2, "take": [1]}},
    }
    found = with_json(tmp_path, splits, COCO)
    tables = {
        name: batch.table["caption"].tolist() for name, batch in found.items() if batch.table is not None
    }
    assert tables == {"train": five("ac"), "test": five("bd")}  # e has no caption
    assert means(found["test"]) == [70, 90]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"captions\.json: the whole: .*Accepted: `images` with `filename`"),
        ({"images": [{"filename": "a.jpg"}, {}]}, r"images\.1\.filename: Field required"),
        ({"images": [], "annotations": [{"image_id": 1, "bbox": []}]}, r"annotations\.0\.caption: Field req"),
        (
            COCO | {"annotations": [{"image_id": 9, "caption": "x"}]},
            r"annotations\.0\.image_id: 9 is the `id`",
        ),
        (
            {"images": [{"filename": "z.jpg", "sentences": [{"raw": "z"}]}]},
            r"like 'Images/a\.jpg'.*of: z\.jpg",
        ),
    ],
)
def test_mistakes_in_json_captions(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        with_json(tmp_path, {"train": {"members": "Images/*.jpg"}}, content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"captions": {"file": "c.json", "delimiter": "|"}}, "give `file` alone"),
        ({"captions": COMMAS}, "`marked` needs `captions` in a .json file"),
        ({"part": {"of": 2, "take": [0]}}, "give one of them"),
        ({"other": ["val", "train"]}, "two splits take the images of 'train'"),
    ],
)
def test_mistakes_in_marked_splits(changes: dict[str, Any], message: str) -> None:
    part, other = changes.get("part"), changes.get("other", ["test"])
    options = {
        "archive": "x.zip",
        "captions": changes.get("captions", {"file": "c.json"}),
        "splits": {
            "train": {"members": "*.jpg", "marked": ["train"], "part": part},
            "test": {"members": "*.jpg", "marked": other},
        },
    }
    with pytest.raises(ValidationError, match=message):
        image_archive.Options.model_validate(options)


def test_a_pattern_that_matches_nothing_is_named(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar.gz", {"x/a/1.png": b""})
    options = {"archive": "x.tar.gz", "splits": {"train": {"members": "{label}/*.png"}}}
    with pytest.raises(UserError, match=r"no member matches '\{label\}/\*\.png' \(split train\)"):
        read(toy("image_archive", options), archive=path)


# npy, npz


def npz_options(**train: Any) -> dict[str, Any]:
    """Return options for images `x` and labels `y` of t.npz, with changes."""
    default = {
        "images": {"file": "t.npz", "array": "x"},
        "labels": {"file": "t.npz", "array": "y"},
    }
    return {"splits": {"train": default | train}}


def test_npz_and_npy(tmp_path: Path) -> None:
    images, labels = pixels(4, 4, 6, 3), np.array([0, 1, 1, 0], dtype=np.int32)
    np.savez_compressed(tmp_path / "t.npz", x=images, y=labels)
    np.save(tmp_path / "x.npy", images[..., 0])
    train = read(toy("npy", npz_options()), t=tmp_path / "t.npz")["train"]
    assert equal(train.images, images)
    assert equal(train.labels, labels)
    grey = toy("npy", npz_options(images={"file": "x.npy"}, labels=None), shape=[4, 6, 1])
    assert equal(read(grey, x=tmp_path / "x.npy")["train"].images, images[..., :1])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": np.zeros(3)}, "unknown array 'x'.*Accepted: z"),
        (
            {"x": np.zeros((4, 4, 6, 3)), "y": np.zeros(4, int)},
            "must be uint8.*float64",
        ),
        ({"x": pixels(4, 4, 6, 3), "y": np.zeros(3, int)}, "4 images but 3 labels"),
        ({"x": pixels(4, 4, 6, 3), "y": np.zeros(4)}, "whole numbers"),
        (
            {"x": np.array([{}], dtype=object), "y": np.zeros(1, int)},
            "Object arrays cannot be loaded",
        ),
    ],
)
def test_mistakes_in_npz(tmp_path: Path, arrays: dict[str, Array], message: str) -> None:
    np.savez(tmp_path / "t.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        read(toy("npy", npz_options()), t=tmp_path / "t.npz")


def test_a_truncated_npz_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=pixels(4, 4, 6, 3), y=np.zeros(4, int))
    (tmp_path / "t.npz").write_bytes((tmp_path / "t.npz").read_bytes()[:-30])
    with pytest.raises(UserError, match=r"t\.npz: damaged"):
        read(toy("npy", npz_options()), t=tmp_path / "t.npz")


# parquet, jsonl, csv


def pairs(tmp_path: Path, **changes: Any) -> Path:
    """Return a Parquet file with six images as structs, captions and a class name."""
    images = pixels(6, 4, 6, 3)
    columns = {
        "id": [10, 11, 12, 13, 14, 15],
        "caption": [f"caption {k}" for k in range(6)],
        "kind": ["b", "a", "a", "b", "a", "b"],
        "image": [{"bytes": encoded(image, "PNG"), "path": f"{k}.png"} for k, image in enumerate(images)],
    }
    path = tmp_path / "p.parquet"
    pandas.DataFrame(columns | changes).to_parquet(path, row_group_size=4)
    return path


def pair_options(**changes: Any) -> dict[str, Any]:
    """Return options with every third row as test."""
    splits = {
        "train": {"file": "p.parquet", "part": {"of": 3, "take": [0, 1]}},
        "test": {"file": "p.parquet", "part": {"of": 3, "take": [2]}},
    }
    return {
        "splits": splits,
        "image": "image",
        "columns": ["caption"],
        "label": "kind",
        "id": "id",
    } | changes


def test_parquet_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.data.readers.parquet.BATCH", 4)
    splits = read(toy("parquet", pair_options(), kind="pairs"), p=pairs(tmp_path))
    images = pixels(6, 4, 6, 3)
    assert equal(splits["train"].images, images[[0, 1, 3, 4]])
    assert equal(splits["test"].images, images[[2, 5]])
    assert equal(splits["train"].labels, [1, 0, 1, 0])
    assert splits["train"].ids == [f"toy/train/{k}" for k in (10, 11, 13, 14)]
    assert splits["test"].table is not None
    assert splits["test"].table.to_dict("list") == {"caption": ["caption 2", "caption 5"]}


@pytest.mark.parametrize("columns", [[], ["name"]])
def test_columns_of_captions_become_one(tmp_path: Path, columns: list[str]) -> None:
    more = {f"caption_{k}": [f"{row} {k}" if row != k else None for row in range(6)] for k in range(3)}
    path = pairs(tmp_path, name=list("abcdef"), **more)
    options = pair_options(columns=columns, captions=list(more), label=None)
    train = read(toy("parquet", options, kind="pairs"), p=path)["train"]
    assert train.table is not None
    assert train.table["caption"].tolist() == [
        [f"{row} {k}" for k in range(3) if k != row] for row in (0, 1, 3, 4)
    ]
    assert not set(more) & set(train.table.columns)
    as_text = {name: pandas.array(texts, dtype="string") for name, texts in more.items()}
    again = read(toy("parquet", options, kind="pairs"), p=pairs(tmp_path, name=list("abcdef"), **as_text))
    assert again["train"].table is not None
    assert again["train"].table["caption"].tolist() == train.table["caption"].tolist(), "pandas' own null"
    nothing = pairs(tmp_path, **{name: [None] * 6 for name in more})
    with pytest.raises(UserError, match=r"row 0 .* has no caption in caption_0, caption_1, caption_2"):
        read(
            toy("parquet", pair_options(columns=[], captions=list(more), label=None), kind="pairs"), p=nothing
        )


def test_a_column_of_lists_holds_captions_under_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five each, as Flickr's photographs have them, beside a column with one."""
    monkeypatch.setattr("winnow.data.readers.parquet.BATCH", 2)
    sentences = [[f" {row} {k}" for k in range(5)] for row in range(6)]
    options = pair_options(columns=[], captions=["sentences", "title"], label=None)
    path = pairs(tmp_path, sentences=sentences, title=["t", None, "t", "t", "t", "t"])
    train = read(toy("parquet", options, kind="pairs"), p=path)["train"]
    assert train.table is not None
    assert train.table["caption"].tolist() == [
        [f"{row} {k}" for k in range(5)] + ["t"] * (row != 1) for row in (0, 1, 3, 4)
    ]
    assert "sentences" not in train.table
    options["captions"] = ["sentences"]
    path = pairs(tmp_path, sentences=[*sentences[:4], [], None])
    with pytest.raises(UserError, match=r"p\.parquet: row 4 .* has no caption in sentences"):
        read(toy("parquet", options, kind="pairs"), p=path)
    left = read(toy("parquet", options | {"require": ["sentences"]}, kind="pairs"), p=path)["train"]
    assert left.table is not None and left.table["caption"].map(len).tolist() == [5, 5, 5]
    path = pairs(tmp_path, sentences=[[{"raw": "a dog"}]] * 6)
    with pytest.raises(UserError, match=r"row 0 .* a list of texts, here is \{'raw': 'a dog'\}"):
        read(toy("parquet", options, kind="pairs"), p=path)


def test_a_list_of_captions_on_every_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"sentences": ["a dog", "a cat "]}\n{"sentences": ["a fox", "an owl"]}\n')
    train = read(text("jsonl", "t.jsonl", captions=["sentences"]), t=path)["train"]
    assert train.table is not None
    assert train.table["caption"].tolist() == [["a dog", "a cat"], ["a fox", "an owl"]]


def test_parquet_with_plain_bytes_and_all_columns(tmp_path: Path) -> None:
    path = pairs(tmp_path, image=[encoded(image, "PNG") for image in pixels(6, 4, 6, 3)])
    train = read(toy("parquet", pair_options(columns=[], label=None), kind="pairs"), p=path)["train"]
    assert equal(train.images, pixels(6, 4, 6, 3)[[0, 1, 3, 4]])
    assert train.table is not None
    assert list(train.table.columns) == ["id", "caption", "kind"]


def test_rows_without_a_required_value_are_left_out_and_still_counted(tmp_path: Path) -> None:
    path = pairs(tmp_path, caption=["a", None, "b", "", "c", None])
    splits = read(toy("parquet", pair_options(require=["caption"]), kind="pairs"), p=path)
    assert splits["train"].ids == ["toy/train/10", "toy/train/14"]
    assert splits["test"].ids == ["toy/test/12"]
    assert equal(splits["train"].images, pixels(6, 4, 6, 3)[[0, 4]])


def test_a_required_column_need_not_be_kept_but_must_be_there(tmp_path: Path) -> None:
    path = pairs(tmp_path, note=["x", None, "x", "x", "x", "x"])
    train = read(toy("parquet", pair_options(require=["note"]), kind="pairs"), p=path)["train"]
    assert train.table is not None and list(train.table.columns) == ["caption"] and len(train) == 3
    with pytest.raises(UserError, match="unknown column 'notes'"):
        read(toy("parquet", pair_options(require=["notes"]), kind="pairs"), p=path)


def test_padding_keeps_proportions_on_a_white_square(tmp_path: Path) -> None:
    images = pixels(6, 4, 6, 3)
    options = pair_options(resize=True, fit="pad")
    train = read(toy("parquet", options, kind="pairs", shape=[6, 6, 3]), p=pairs(tmp_path))["train"]
    assert train.images is not None
    assert equal(train.images[:, 1:5], images[[0, 1, 3, 4]])
    assert (train.images[:, [0, 5]] == 255).all()


@pytest.mark.parametrize(("size", "shape"), [((48, 64), (32, 32)), ((64, 48), (32, 32)), ((10, 10), (8, 16))])
def test_padded_pictures_shrink_without_stretching(size: tuple[int, int], shape: tuple[int, int]) -> None:
    """A black picture of width x height pixels: the black part keeps its proportions."""
    black = encoded(np.zeros((size[1], size[0], 3), dtype=np.uint8), "PNG")
    found = decode(black, (*shape, 3), True, "here", "pad")[..., 0] < 128
    scale = min(shape[0] / size[1], shape[1] / size[0])
    assert found.any(axis=1).sum() == round(size[1] * scale)
    assert found.any(axis=0).sum() == round(size[0] * scale)
    assert (found == found[::-1, ::-1]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_become_white(mode: str) -> None:
    picture = Image.new("RGBA", (6, 4), (0, 0, 0, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 3, 4))
    buffer = io.BytesIO()
    picture.convert(mode).save(buffer, "PNG")
    found = decode(buffer.getvalue(), (4, 6, 3), False, "here")
    assert (found[:, :3] == 255).all() and (found[:, 3:] == 0).all()


@pytest.mark.parametrize(
    ("options", "columns", "message"),
    [
        (
            {"image": "picture"},
            {},
            "unknown column 'picture'.*caption, id, image, kind",
        ),
        (
            {"columns": ["captions"]},
            {},
            "unknown column 'captions'.*Did you mean 'caption'",
        ),
        ({}, {"kind": ["c"] * 6}, "unknown class 'c'.*Accepted: a, b"),
        ({}, {"kind": ["a", None, "a", "a", "a", "a"]}, "lacks a label"),
        ({}, {"image": ["text"] * 6}, "the image column holds str"),
        ({}, {"image": [b"no image"] * 6}, "row 0: the image cannot be decoded"),
        ({"image": None}, {}, "go together"),
    ],
)
def test_mistakes_in_parquet(
    tmp_path: Path, options: dict[str, Any], columns: dict[str, Any], message: str
) -> None:
    path = pairs(tmp_path, **columns)
    with pytest.raises(UserError, match=message):
        read(toy("parquet", pair_options(**options), kind="pairs"), p=path)


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    path = pairs(tmp_path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"p\.parquet: damaged"):
        read(toy("parquet", pair_options(), kind="pairs"), p=path)


def text(reader: str, name: str, **options: Any) -> DatasetEntry:
    """Return a text entry with one file."""
    return toy(reader, {"splits": {"train": {"file": name}}} | options, kind="text", shape=None)


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(
        '{"q": "1+1?", "a": "2", "label": 1}\n\n{"q": "é", "a": "3", "label": 0}\n',
        encoding="utf-8",
    )
    train = read(text("jsonl", "t.jsonl", columns=["q"], label="label"), t=path)["train"]
    assert train.table is not None
    assert train.table.to_dict("list") == {"q": ["1+1?", "é"]}
    assert equal(train.labels, [1, 0])
    assert train.images is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"q": 1}\n{"q": 2\n', "line 2: not valid JSON"),
        (b'{"q": 1}\n[2]\n', "line 2: expected a JSON object, found list"),
        (b'{"q": "\xe9"}\n', "not UTF-8"),
        (json.dumps({"p": 1}).encode(), "unknown column 'q'"),
    ],
)
def test_mistakes_in_jsonl(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(text("jsonl", "t.jsonl", columns=["q"]), t=tmp_path / "t.jsonl")


def test_spaces_around_the_names_of_a_header_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("image| comment\na| A dog .\nb\n")
    entry = text("csv", "t.csv", delimiter="|", captions=["comment"], require=["comment"])
    train = read(entry, t=path)["train"]
    assert train.table is not None
    assert train.table.to_dict("list") == {"image": ["a"], "caption": [["A dog ."]]}
    with pytest.raises(UserError, match=r"row 1 .* has no caption in comment"):
        read(text("csv", "t.csv", delimiter="|", captions=["comment"]), t=path)


def test_csv_and_tsv(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('text,kind\n"good, or so",b\nNA,a\n')
    train = read(text("csv", "t.csv", columns=["text"], label="kind"), t=path)["train"]
    assert train.table is not None
    assert train.table["text"].tolist() == ["good, or so", "NA"]
    assert equal(train.labels, [1, 0])
    (tmp_path / "t.tsv").write_bytes("café\t1\n".encode("latin-1"))
    entry = text(
        "csv",
        "t.tsv",
        delimiter="\t",
        encoding="latin-1",
        names=["text", "y"],
        label="y",
        columns=["text"],
    )
    train = read(entry, t=tmp_path / "t.tsv")["train"]
    assert train.table is not None
    assert train.table["text"].tolist() == ["café"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n1,2,3,4\n", "delimited text"),
        (b"a\n\xe9\n", "utf-8"),
        (b"", "No columns"),
    ],
)
def test_mistakes_in_csv(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(text("csv", "t.csv"), t=tmp_path / "t.csv")


# bundled


def test_digits_are_split_by_the_stated_rule() -> None:
    from sklearn.datasets import load_digits

    splits = read(published("digits"))
    source = load_digits()
    assert (len(splits["train"]), len(splits["test"])) == (1437, 360)
    counts = np.bincount(source.target)
    assert splits["test"].labels is not None
    assert np.abs(np.bincount(splits["test"].labels) - counts / 5).max() < 1
    images = [batch.images for batch in splits.values() if batch.images is not None]
    scaled = np.concatenate(images)[..., 0]
    assert scaled.dtype == np.uint8
    assert sorted(np.rint(scaled.reshape(-1, 64) * (16 / 255)).astype(int).tolist()) == sorted(
        source.data.astype(int).tolist()
    )
    assert scaled.max() == 255


PARTS = [
    ({}, {"of": 5, "take": [4]}, True),
    ({"of": 5, "leave": [4]}, {"of": 5, "take": [4]}, False),
    ({"of": 4, "take": [0, 2]}, {"of": 6, "take": [1, 3]}, False),
    ({"of": 4, "take": [0, 2]}, {"of": 6, "take": [1, 4]}, True),
    ({"of": 100_003, "take": [1]}, {"of": 99_991, "take": [5]}, True),
]


@pytest.mark.parametrize(("one", "other", "meet"), PARTS)
def test_splits_that_share_rows_are_refused(one: dict[str, Any], other: dict[str, Any], meet: bool) -> None:
    """A forgotten `part` would let models be tested on what they were trained on."""
    train, test = ({"part": part} if part else {} for part in (one, other))
    tables = {"train": {"file": "a.csv"} | train, "test": {"file": "a.csv"} | test}
    images = {"train": {"members": "*.jpg"} | train, "test": {"members": "*.jpg"} | test}
    shards = {"train": {"shards": ["a.tar"]} | train, "test": {"shards": ["a.tar"]} | test}
    for options in (
        lambda: TableOptions(splits=tables),
        lambda: image_archive.Options(archive="a.zip", splits=images),
        lambda: webdataset.Options(splits=shards),
        lambda: webdataset.Options(splits={"train": train, "test": test}),
    ):
        if meet:
            with pytest.raises(ValidationError, match="`train` and `test` share rows of"):
                options()
        else:
            options()
    TableOptions(splits=tables | {"test": {"file": "b.csv"}})
