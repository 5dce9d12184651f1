"""Emoji in several drawing styles: the same captions, and a shift of style between training and test.

The archive holds `<style>/<name>.png`, the JSON file gives per name a description, tags and a category. Every
`hold_out`-th emoji, counted over the names sorted by category and name and beginning with the first, is never
trained on in any style. So

    train        the other emoji, in all styles but `test_style`
    validation   the held-out emoji, in the same styles as train: unseen emoji, seen styles
    test         the held-out emoji, in `test_style`: the same unseen emoji, an unseen style

and test against validation is the cost of the style alone; other emoji in `test_style` are not used. Emoji
come in families (genders, skin tones, clock faces), whose members may be on both sides.

The caption is the description, the label the category (sorted); further columns: `tags` (joined by ", "),
`style`, `emoji` (its name). Transparent parts become white. Identifiers are `<style>/<name>`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from winnow.data import archive
from winnow.data.batch import BATCH, Batch
from winnow.data.pictures import decode_all
from winnow.errors import UserError, unknown
from winnow.plan.catalogue import DatasetEntry, FileName, ReaderOptions


class Options(ReaderOptions):
    """Options of the reader `emoji`."""

    archive: FileName
    captions: FileName
    test_style: str
    hold_out: int = Field(default=10, ge=2)
    resize: bool = False

    def file_names(self) -> set[str]:
        """Return the archive and the captions."""
        return {self.archive, self.captions}


class _Picture(NamedTuple):
    split: str
    row: int
    style: str
    name: str


def read(entry: DatasetEntry, files: dict[str, Path]) -> Iterator[Batch]:
    """Yield the images as the archive is unpacked, each split in the order of style and name."""
    options = Options.model_validate(entry.options)
    path = files[options.archive]
    about = _about(files[options.captions])
    pictures = _pictures(path, options, about, files[options.captions])
    held: dict[str, list[tuple[_Picture, bytes]]] = {}
    for member, content in archive.stream(path, set(pictures)):
        picture = pictures[member]
        waiting = held.setdefault(picture.split, [])
        waiting.append((picture, content(-1)))
        if len(waiting) == BATCH:
            yield _batch(entry, options, held.pop(picture.split), about, path)
    for waiting in held.values():
        yield _batch(entry, options, waiting, about, path)


def _about(path: Path) -> dict[str, dict[str, Any]]:
    """Return description, tags and category by name."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(name): {
                "caption": str(facts["description"]),
                "tags": ", ".join(facts["tags"]),
                "category": str(facts["category"]),
            }
            for name, facts in about.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise archive.damaged(path, error) from error


def _pictures(
    path: Path, options: Options, about: dict[str, dict[str, Any]], captions: Path
) -> dict[str, _Picture]:
    """Return each used member's place."""
    sizes, _ = archive.inspect(path, set())
    members = {member: PurePosixPath(member) for member in sizes}
    styles = sorted({pure.parent.name for pure in members.values()})
    if options.test_style not in styles:
        raise unknown("style", options.test_style, styles, f"{path}: test_style")
    order = sorted(about, key=lambda name: (about[name]["category"], name))
    unseen = set(order[:: options.hold_out])
    places: dict[str, list[tuple[str, str, str]]] = {"train": [], "validation": [], "test": []}
    for member, pure in members.items():
        style, name = pure.parent.name, pure.stem
        if name not in about:
            raise UserError(f"{captions}: describes no '{name}', of which {path} has a picture.")
        if name in unseen:
            places["test" if style == options.test_style else "validation"].append((style, name, member))
        elif style != options.test_style:
            places["train"].append((style, name, member))
    return {
        member: _Picture(split, row, style, name)
        for split, found in places.items()
        for row, (style, name, member) in enumerate(sorted(found))
    }


def _batch(
    entry: DatasetEntry,
    options: Options,
    held: list[tuple[_Picture, bytes]],
    about: dict[str, dict[str, Any]],
    path: Path,
) -> Batch:
    import pandas

    if entry.shape is None:
        raise UserError(f"datasets.yaml: {entry.name}: emoji are pictures; give a `shape`.")
    pictures = [picture for picture, _ in held]
    encoded = ((f"{path}: {p.style}/{p.name}", content) for p, content in held)
    facts = [about[picture.name] for picture in pictures]
    categories = sorted({entry["category"] for entry in about.values()})
    table = pandas.DataFrame(
        {
            "caption": [fact["caption"] for fact in facts],
            "tags": [fact["tags"] for fact in facts],
            "style": [picture.style for picture in pictures],
            "emoji": [picture.name for picture in pictures],
        }
    )
    return Batch(
        pictures[0].split,
        images=decode_all(encoded, entry.shape, options.resize),
        labels=np.array([categories.index(fact["category"]) for fact in facts], dtype=np.int64),
        table=table,
        rows=np.array([picture.row for picture in pictures], dtype=np.int64),
        ids=[f"{entry.name}/{p.split}/{p.style}/{p.name}" for p in pictures],
        classes=tuple(categories),
    )
