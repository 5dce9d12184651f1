"""Shards of image-text pairs in the webdataset layout: tar files with members `<key>.<ending>` per sample.

A sample is an image (`.jpg`, `.jpeg`, `.png`, `.webp`), its caption (`.txt`) and, from a crawl, what is known
of it (`.json`, with its `url`). Nothing is ever unpacked: an index says where the bytes of each image lie.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from winnow.errors import UserError

if TYPE_CHECKING:
    import pandas

IMAGES: Final = frozenset({"jpg", "jpeg", "png", "webp"})
NO_IMAGE: Final = "text without image"
NO_CAPTION: Final = "image without text"
NO_FACTS: Final = "no metadata"
UNDECODABLE: Final = "undecodable image"
EMPTY: Final = "empty caption"
NOT_TEXT: Final = "caption is not UTF-8"
DUPLICATE: Final = "duplicate pair"
PROBLEMS: Final = (NO_IMAGE, NO_CAPTION, NO_FACTS, UNDECODABLE, EMPTY, NOT_TEXT, DUPLICATE)

COLUMNS: Final = {
    "key": "str",
    "offset": "int64",
    "length": "int64",
    "width": "int32",
    "height": "int32",
    "original_width": "int64",
    "original_height": "int64",
    "sha256": "str",
    "caption": "str",
    "url": "str",
    "line": "int64",
    "problem": "str",
}
"""Of an index: name in the shard, place of the image's bytes, pixels, pixels before a crawl reduced them (as
far as the metadata say, else the same), digest of these bytes, text, address, line of the list (-1: not
known), and what is wrong with the sample (nothing: an empty text)."""


@dataclass
class _Sample:
    """The parts of one sample that have been met."""

    key: str
    image: tuple[int, int] | None = None
    size: tuple[int, int] | None = None
    sha256: str = ""
    caption: bytes | None = None
    facts: bytes | None = None


def index_shard(path: Path, facts_needed: bool = False) -> pandas.DataFrame:
    """Return the index of a shard: one row per sample with `COLUMNS`, in the shard's order.

    Every image is decoded once. facts_needed: a sample without `.json` counts as a problem. Raises
    `UserError` if the tar itself cannot be read to its end.
    """
    import pandas

    samples: dict[str, _Sample] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for key, ending, member, content in _members(tar):
                _take(samples.setdefault(key, _Sample(key)), ending, member, content)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"{path}: not a whole tar file ({error}). Fetch it again.") from error
    rows = [_row(sample, facts_needed) for sample in samples.values()]
    return pandas.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo, bytes]]:
    """Yield (key, ending, member, content) of each plain file; links and devices are passed over."""
    for member in tar:
        folder, _, name = member.name.rpartition("/")
        key, dot, ending = name.partition(".")
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or not key or not dot:
            continue
        stream = tar.extractfile(member)
        content = b"" if stream is None else stream.read()
        if len(content) != member.size:
            raise tarfile.ReadError(f"'{member.name}' has {len(content)} of {member.size} bytes")
        yield f"{folder}/{key}" if folder else key, ending.lower(), member, content


def _take(sample: _Sample, ending: str, member: tarfile.TarInfo, content: bytes) -> None:
    if ending in IMAGES:
        sample.image = (member.offset_data, member.size)
        sample.size = pixels(content)
        sample.sha256 = hashlib.sha256(content).hexdigest()
    elif ending == "txt":
        sample.caption = content
    elif ending == "json":
        sample.facts = content


def pixels(encoded: bytes) -> tuple[int, int] | None:
    """Return width and height of an image that can be decoded to its end, else None."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            image.load()
            return image.size
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError):
        return None


def _row(sample: _Sample, facts_needed: bool) -> tuple[Any, ...]:
    caption, is_text = _text(sample.caption)
    facts = _facts(sample.facts)
    if sample.image is None:
        problem = NO_IMAGE
    elif sample.caption is None:
        problem = NO_CAPTION
    elif facts_needed and not facts:
        problem = NO_FACTS
    elif sample.size is None:
        problem = UNDECODABLE
    else:
        problem = NOT_TEXT if not is_text else "" if caption else EMPTY
    offset, length = sample.image or (0, 0)
    width, height = sample.size or (0, 0)
    sizes = (width, height, *(_original(facts) or (width, height)))
    url, line = str(facts.get("url") or ""), int(facts.get("line", -1))
    return sample.key, offset, length, *sizes, sample.sha256, caption, url, line, problem


def _original(facts: dict[str, Any]) -> tuple[int, int] | None:
    """Return the width and height that img2dataset notes of an image as it was published."""
    width, height = (facts.get(f"original_{side}") for side in ("width", "height"))
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        return width, height
    return None


def _text(content: bytes | None) -> tuple[str, bool]:
    try:
        return (content or b"").decode("utf-8").strip(), True
    except UnicodeDecodeError:
        return "", False


def _facts(content: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(content or b"")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def count_problems(problems: pandas.Series) -> dict[str, int]:
    """Return how many samples have each problem, those that none has left out."""
    return {str(name): int(n) for name, n in problems[problems != ""].value_counts().sort_index().items()}


def identity(url: str, sha256: str, caption: str) -> str:
    """Return 16 hex digits that stay with a pair: of its address, else its image's bytes, and its caption."""
    return hashlib.sha256(f"{url or sha256}\t{caption}".encode()).hexdigest()[:16]
