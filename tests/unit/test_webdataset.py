"""Images that stay in their shards: index, splits, what is left out, and what is read at the end."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision import transforms

from winnow.canonical import sha256_file
from winnow.data import lazy
from winnow.data.dataset import Dataset
from winnow.data.lazy import ShardImages, fitted
from winnow.data.prepare import channel_statistics, prepare
from winnow.data.shards import index_shard
from winnow.errors import UserError
from winnow.plan.catalogue import DatasetEntry
from winnow.signals import pair_facts
from winnow.signals.engine.view import SignalView
from winnow.store import write_json
from winnow.train.engine.features import features
from winnow.train.engine.space import Space
from winnow.train.engine.task import to_tensor

SHAPE = (12, 12, 3)


def encode(seed: int, size: tuple[int, int] = (20, 16), kind: str = "PNG") -> bytes:
    """Return an encoded picture of noise; PNG keeps every value."""
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(values).save(out, kind)
    return out.getvalue()


def write_shard(path: Path, samples: list[dict[str, bytes]], first: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, parts in enumerate(samples, start=first):
            for ending, content in parts.items():
                member = tarfile.TarInfo(f"{number:05d}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def pair(seed: int, caption: str | None = None, **changes: bytes) -> dict[str, bytes]:
    text = f"caption {seed}" if caption is None else caption
    facts = json.dumps({"url": f"http://x/{seed}", "line": seed}).encode()
    return {"png": encode(seed), "txt": text.encode(), "json": facts} | changes


def entry_of(splits: dict[str, Any], files: list[Path] = [], **changes: Any) -> DatasetEntry:  # noqa: B006
    fields = {
        "name": "toy",
        "title": "Toy",
        "kind": "pairs",
        "licence": "MIT",
        "homepage": "https://example.org",
        "reader": "webdataset",
        "options": {"splits": {name: options for name, (_, options) in splits.items()}},
        "splits": {name: n for name, (n, _) in splits.items()},
        "shape": SHAPE,
        "files": [
            {"name": p.name, "bytes": p.stat().st_size, "sha256": sha256_file(p), "note": "made here"}
            for p in files
        ],
    }
    return DatasetEntry.model_validate(fields | changes)


def prepared(tmp_path: Path, entry: DatasetEntry, **options: Any) -> Dataset:
    """Prepare and open, with the data folder where the store has it."""
    files = {name: tmp_path / "data" / place for name, place in entry.sources().items()}
    out = tmp_path / "demo" / "prepare" / f"toy-{len(list(tmp_path.glob('demo/prepare/*')))}"
    out.mkdir(parents=True)
    prepare(entry, files, out, **options)
    return Dataset.open(out)


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Two shards of six and four good pairs."""
    paths = [tmp_path / "data" / "toy" / f"0000{i}.tar" for i in range(2)]
    write_shard(paths[0], [pair(i) for i in range(6)])
    write_shard(paths[1], [pair(i) for i in range(6, 10)], first=6)
    return paths


def pixels(seed: int) -> np.ndarray:
    """Return what the dataset should give: an independent resize and cut."""
    with Image.open(io.BytesIO(encode(seed))) as image:
        return np.asarray(reference(image, 12))


def reference(image: Image.Image, size: int) -> Image.Image:
    resize = transforms.Resize(size, interpolation=transforms.InterpolationMode.BICUBIC)
    return transforms.CenterCrop(size)(resize(image))


NAMES = ("00000.tar", "00001.tar")


def test_each_line_of_a_text_can_be_a_caption_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "data" / "toy" / "00000.tar"
    write_shard(path, [pair(0, "a dog\r\n\n a black dog \n"), pair(1, "a cat"), pair(2, " \n ")])
    splits = {"train": (2, {"shards": [path.name]})}
    entry = entry_of(splits, [path])
    assert prepared(tmp_path, entry).captions("train") == [["a dog\r\n\n a black dog"], ["a cat"]]
    options = entry.options | {"captions": "lines"}
    data = prepared(tmp_path, entry.model_copy(update={"options": options}))
    assert data.captions("train") == [["a dog", "a black dog"], ["a cat"]]
    assert [index.split("/")[-1] for index in data.ids("train")] == [
        index.split("/")[-1] for index in prepared(tmp_path, entry).ids("train")
    ]


def test_pairs_come_back_from_their_shards(shards: list[Path], tmp_path: Path) -> None:
    data = prepared(tmp_path, entry_of({"train": (10, {"shards": NAMES})}, shards))
    assert not list(data.folder.glob("*.npy"))
    images = data.images("train")
    assert (len(images), images.shape, images.dtype) == (10, (10, *SHAPE), np.uint8)
    whole = np.stack([pixels(i) for i in range(10)])
    for key in (0, -1, np.int64(4)):
        assert np.array_equal(images[key], whole[key])
    for key in (
        slice(2, 9, 3),
        slice(None),
        slice(4, 4),
        np.array([7, 0, 0, -2]),
        [3, 1],
        np.arange(10) % 3 == 0,
    ):
        assert np.array_equal(images[key], whole[key])
    assert data.table("train").to_dict("list") == {
        "caption": [f"caption {i}" for i in range(10)],
        "url": [f"http://x/{i}" for i in range(10)],
    }
    with pytest.raises(IndexError):
        images[10]
    with pytest.raises(IndexError):
        images[[10]]
    assert not data.has_labels("train")
    assert (data.pool_labels() == -1).all()


def test_statistics_are_of_a_stated_sample(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = entry_of({"train": (10, {"shards": NAMES})}, shards)
    facts = json.loads((prepared(tmp_path, entry).folder / "dataset.json").read_text())
    whole = np.stack([pixels(i) for i in range(10)])
    assert facts["statistics_sample"] == 10
    assert (facts["mean"], facts["std"]) == tuple(channel_statistics(whole))
    monkeypatch.setattr("winnow.data.prepare.SAMPLE", 4)
    facts = json.loads((prepared(tmp_path, entry).folder / "dataset.json").read_text())
    assert facts["statistics_sample"] == 4
    assert (facts["mean"], facts["std"]) == tuple(channel_statistics(whole[[0, 3, 6, 9]]))


def test_parts_limits_and_holdout_keep_rows_together(shards: list[Path], tmp_path: Path) -> None:
    parts = {
        "train": (8, {"shards": NAMES, "part": {"of": 5, "take": [0, 1, 2, 3]}}),
        "test": (2, {"shards": NAMES, "part": {"of": 5, "take": [4]}}),
    }
    entry = entry_of(parts, shards)
    full, small = prepared(tmp_path, entry), prepared(tmp_path, entry, limits={"train": 3}, holdout=2)
    assert list(full.table("test")["caption"]) == ["caption 4", "caption 9"]
    assert np.array_equal(full.images("test")[:], np.stack([pixels(4), pixels(9)]))
    assert [small.n(split) for split in ("train", "validation", "test")] == [3, 2, 2]
    for split in ("train", "validation"):
        seeds = [int(caption.split()[1]) for caption in small.table(split)["caption"]]
        assert np.array_equal(small.images(split)[:], np.stack([pixels(seed) for seed in seeds]))
        names = dict(zip(full.table("train")["caption"], full.ids("train"), strict=True))
        assert small.ids(split) == [names[f"caption {seed}"] for seed in seeds]
    both = prepared(tmp_path, entry, pool=("train", "test"))
    pool = both.pool_images()
    assert isinstance(pool, ShardImages)
    order = [0, 1, 2, 3, 5, 6, 7, 8, 4, 9]
    assert np.array_equal(pool[:], np.stack([pixels(seed) for seed in order]))


def test_what_is_wrong_is_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "data" / "toy" / "a.tar"
    samples = [
        pair(0),
        {"txt": b"text only", "json": b"{}"},
        {"png": encode(2)},
        pair(3, "  "),
        pair(4, png=encode(4)[:-60]),
        pair(0),
        pair(6, txt=b"\xff"),
        pair(0, "another caption"),
        {"png": encode(8), "txt": b"no metadata"},
        {"png": encode(8), "txt": b"no metadata"},
        pair(10),
    ]
    write_shard(path, samples)
    data = prepared(tmp_path, entry_of({"train": (3, {"shards": ["a.tar"]})}, [path]))
    assert list(data.table("train")["caption"]) == ["caption 0", "another caption", "no metadata"]
    facts = json.loads((data.folder / "dataset.json").read_text())
    assert facts["left_out"]["train"] == {
        "beyond the number that the split takes": 1,
        "caption is not UTF-8": 1,
        "duplicate pair": 2,
        "empty caption": 1,
        "image without text": 1,
        "text without image": 1,
        "undecodable image": 1,
    }
    with pytest.raises(UserError, match=r"5 pairs, but the shards hold 4 usable ones .* Accepted: 1 to 4"):
        prepared(tmp_path, entry_of({"train": (5, {"shards": ["a.tar"]})}, [path]))
    with pytest.raises(UserError, match="name `shards`"):
        prepared(tmp_path, entry_of({"train": (1, {})}, []))


def crawled(tmp_path: Path, shards: list[Path]) -> DatasetEntry:
    """Lay two shards out as a crawl leaves them; lines come in another order than the list's."""
    folder = tmp_path / "data" / "toy" / "shards"
    folder.mkdir()
    records = []
    for path in shards:
        index = index_shard(path).iloc[::-1]
        index.to_parquet(folder / f"{path.stem}.index.parquet", index=False)
        path.rename(folder / path.name)
        size = (folder / path.name).stat().st_size
        records.append({"shard": path.name, "bytes": size, "fetched": len(index)})
    write_json(tmp_path / "data" / "toy" / "crawl.json", {"shards": records})
    crawl = {"list": "list.tsv", "columns": ["caption", "url"]}
    parts = {
        "train": (8, {"part": {"of": 5, "take": [0, 1, 2, 4]}}),
        "test": (2, {"part": {"of": 5, "take": [3]}}),
    }
    return entry_of(parts, crawl=crawl)


def test_a_crawl_is_read_in_the_order_of_its_list(shards: list[Path], tmp_path: Path) -> None:
    entry = crawled(tmp_path, shards)
    data = prepared(tmp_path, entry)
    assert [int(c.split()[1]) for c in data.table("train")["caption"]] == [0, 1, 2, 4, 5, 6, 7, 9]
    assert np.array_equal(data.images("test")[:], np.stack([pixels(3), pixels(8)]))
    shard = tmp_path / "data" / "toy" / "shards" / "00001.tar"
    with shard.open("ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match="not the shard that"):
        prepared(tmp_path, entry)
    with pytest.raises(UserError, match=r"00001\.tar: has \d+ bytes, had \d+ bytes"):
        data.images("train")[:]
    shard.unlink()
    with pytest.raises(UserError, match=r"00001\.tar: missing or damaged"):
        prepared(tmp_path, entry)
    with pytest.raises(UserError, match=r"00001\.tar: cannot be opened"):
        data.images("train")[:]


def test_a_damaged_range_names_shard_and_sample(shards: list[Path], tmp_path: Path) -> None:
    data = prepared(tmp_path, entry_of({"train": (10, {"shards": NAMES})}, shards))
    images = data.images("train")
    assert isinstance(images, ShardImages)
    with shards[0].open("r+b") as file:
        file.seek(int(images.offsets[3]) + 30)
        file.write(b"\0" * 200)
    with pytest.raises(UserError, match=r"00000\.tar: sample '00003': the image cannot be decoded"):
        images[2:5]
    images = images.rows(np.arange(10))
    images.lengths[9] = 1 << 30
    with pytest.raises(UserError, match=r"00001\.tar: sample '00009': the shard ends before the image"):
        images[9]


def test_sizes_are_those_of_the_published_pictures(tmp_path: Path) -> None:
    """DataComp's rules look at them: a crawl reduces pictures, and the dataset fits them once more."""
    path = tmp_path / "data" / "toy" / "a.tar"

    def noted(seed: int, **facts: Any) -> dict[str, bytes]:
        return pair(seed, json=json.dumps({"url": f"http://x/{seed}", "line": seed} | facts).encode())

    samples = [
        noted(0, original_width=400, original_height=150),
        noted(1, original_width=None, original_height="?"),
        pair(2, png=encode(2, (30, 90))),
    ]
    write_shard(path, samples)
    data = prepared(tmp_path, entry_of({"train": (3, {"shards": ["a.tar"]})}, [path]))
    assert data.sizes("train").tolist() == [[400, 150], [20, 16], [30, 90]]
    facts = pair_facts.compute(pair_facts.Params(), SignalView(data, 0, 0))
    assert facts[:, pair_facts.COLUMNS.index("min_side")].tolist() == [150, 16, 30]
    assert np.allclose(facts[:, pair_facts.COLUMNS.index("aspect")], [400 / 150, 20 / 16, 3])


def test_a_crawl_from_before_sizes_were_noted_has_those_of_its_shards(
    shards: list[Path], tmp_path: Path
) -> None:
    entry = crawled(tmp_path, shards)
    for path in (tmp_path / "data" / "toy" / "shards").glob("*.index.parquet"):
        early = pd.read_parquet(path).drop(columns=["original_width", "original_height"])
        early.to_parquet(path, index=False)
    assert prepared(tmp_path, entry).sizes("test").tolist() == [[20, 16]] * 2


@pytest.mark.parametrize("name", ["../secret.tar", "/etc/passwd", "toy/../../x.tar"])
def test_no_name_leaves_the_data_folder(tmp_path: Path, name: str) -> None:
    index = pd.DataFrame({"shard": [name], "offset": [0], "length": [1], "key": ["a"]})
    with pytest.raises(UserError, match="lies outside this folder"):
        ShardImages(index, tmp_path, SHAPE, {})


def test_all_pixels_at_once_are_refused_beyond_a_limit(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = prepared(tmp_path, entry_of({"train": (10, {"shards": NAMES})}, shards)).images("train")
    assert np.array_equal(np.array(images), images[:])
    assert np.asarray(images, dtype=np.float32).dtype == np.float32
    monkeypatch.setattr(lazy, "WHOLE_LIMIT", 1000)
    with pytest.raises(UserError, match=r"10 images of .* use a trainer that streams"):
        to_tensor(images, torch.device("cpu"))


def test_features_are_those_of_the_same_pixels_in_memory(shards: list[Path], tmp_path: Path) -> None:
    data = prepared(tmp_path, entry_of({"train": (10, {"shards": NAMES})}, shards))
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten())
    space = Space.plain(data, torch.device("cpu"))
    images = data.pool_images()
    assert torch.equal(features(model, images, space), features(model, images[:], space))


def _read(images: ShardImages) -> bytes:
    return images[:].tobytes()


def test_several_processes_read_the_same_and_few_files_stay_open(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy, "OPEN_FILES", 1)
    images = prepared(tmp_path, entry_of({"train": (10, {"shards": NAMES})}, shards)).images("train")
    assert isinstance(images, ShardImages)
    expected = images[np.array([0, 9, 1, 8])].tobytes()
    assert len(images._open) == 1
    copy = pickle.loads(pickle.dumps(images))
    assert not copy._open
    assert copy[np.array([0, 9, 1, 8])].tobytes() == expected
    with get_context("fork").Pool(2) as pool:
        assert set(pool.map(_read, [images] * 4)) == {images[:].tobytes()}
    before = len(os.listdir("/proc/self/fd"))
    images.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1


@pytest.mark.parametrize("size", [(20, 16), (16, 20), (12, 12), (5, 40), (7, 6), (301, 200)])
def test_pictures_are_fitted_as_torchvision_does(size: tuple[int, int]) -> None:
    with Image.open(io.BytesIO(encode(1, size, "JPEG"))) as image:
        assert np.array_equal(fitted(image, 12, 12), reference(image, 12))


def test_pictures_are_fitted_as_open_clip_does() -> None:
    open_clip = pytest.importorskip("open_clip")
    transform = open_clip.image_transform(224, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    for seed, size in enumerate([(256, 341), (341, 256), (256, 256), (500, 100), (90, 120)]):
        with Image.open(io.BytesIO(encode(seed, size, "JPEG"))) as image:
            theirs = (transform(image) * 255).round().to(torch.uint8).permute(1, 2, 0)
            assert np.array_equal(fitted(image.convert("RGB"), 224, 224), theirs)


def test_other_shapes_are_filled_and_cut(tmp_path: Path) -> None:
    wide = Image.fromarray(np.tile(np.arange(40, dtype=np.uint8), (10, 1)))
    assert fitted(wide, 8, 10).size == (8, 10)
    assert np.array_equal(np.asarray(fitted(wide, 8, 10)), np.asarray(wide)[:, 16:24])
    assert fitted(wide, 30, 6).size == (30, 6)
