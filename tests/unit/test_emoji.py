"""Emoji: who is in which split, and what comes with each picture."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_readers import read, toy

from winnow.data.batch import Batch
from winnow.errors import UserError

STYLES = ("flat", "line", "round")
NAMES = [f"{kind}{k}" for kind in ("apple", "bird") for k in range(10)]


def build(folder: Path, about: dict[str, Any] | None = None, names: list[str] = NAMES) -> dict[str, Path]:
    """Write pictures whose red value is the emoji and whose green value is the style."""
    with tarfile.open(folder / "e.tar.xz", "w:xz") as tar:
        for style in reversed(STYLES):
            for k, name in enumerate(names):
                picture = Image.new("RGBA", (6, 4), (k, STYLES.index(style), 9, 255))
                picture.putpixel((0, 0), (0, 0, 0, 0))
                encoded = io.BytesIO()
                picture.save(encoded, "PNG")
                info = tarfile.TarInfo(f"{style}/{name}.png")
                info.size = len(encoded.getvalue())
                tar.addfile(info, io.BytesIO(encoded.getvalue()))
    facts = {
        name: {"description": f"a {name}", "tags": ["x", name], "category": name[:-1], "aliases": []}
        for name in reversed(NAMES)
    }
    (folder / "c.json").write_text(json.dumps(facts if about is None else about), encoding="utf-8")
    return {"e": folder / "e.tar.xz", "c": folder / "c.json"}


def emoji(folder: Path, **changes: Any) -> dict[str, Batch]:
    options = {"archive": "e.tar.xz", "captions": "c.json", "test_style": "line", "hold_out": 5} | changes
    splits = {"train": 32, "validation": 8, "test": 4}
    entry = toy("emoji", options, kind="pairs", splits=splits, classes=["apple", "bird"])
    return read(entry, e=folder / "e.tar.xz", c=folder / "c.json")


def places(batch: Batch) -> set[tuple[str, str]]:
    assert batch.table is not None
    return set(zip(batch.table["style"], batch.table["emoji"], strict=True))


def test_splits_share_neither_emoji_nor_the_test_style(tmp_path: Path) -> None:
    build(tmp_path)
    splits = emoji(tmp_path)
    unseen = {"apple0", "apple5", "bird0", "bird5"}
    seen = set(NAMES) - unseen
    assert places(splits["train"]) == {(style, name) for style in ("flat", "round") for name in seen}
    assert places(splits["validation"]) == {(style, name) for style in ("flat", "round") for name in unseen}
    assert places(splits["test"]) == {("line", name) for name in unseen}


def test_rows_hold_their_picture_label_and_caption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.data.readers.emoji.BATCH", 3)
    build(tmp_path)
    for split, batch in emoji(tmp_path).items():
        assert batch.table is not None and batch.images is not None and batch.labels is not None
        order = list(zip(batch.table["style"], batch.table["emoji"], strict=True))
        assert order == sorted(order)
        assert batch.ids == [f"toy/{split}/{style}/{name}" for style, name in order]
        assert list(batch.table["caption"]) == [f"a {name}" for _, name in order]
        assert list(batch.table["tags"]) == [f"x, {name}" for _, name in order]
        assert batch.labels.tolist() == [int(name.startswith("bird")) for _, name in order]
        inside = [[NAMES.index(name), STYLES.index(style), 9] for style, name in order]
        assert batch.images[:, 2, 3].tolist() == inside
        assert (batch.images[:, 0, 0] == 255).all()  # transparent


def test_mistakes(tmp_path: Path) -> None:
    build(tmp_path)
    with pytest.raises(UserError, match=r"unknown style 'lines'.*Did you mean 'line'"):
        emoji(tmp_path, test_style="lines")
    build(tmp_path, names=[*NAMES, "cat0"])
    with pytest.raises(UserError, match=r"c\.json: describes no 'cat0'"):
        emoji(tmp_path)
    build(tmp_path, about={"apple0": {"description": "a"}})
    with pytest.raises(UserError, match=r"c\.json: damaged"):
        emoji(tmp_path)
