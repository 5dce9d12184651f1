"""Files with the captions of photographs, in the forms in which they are handed on.

    delimited   a line per caption, with the image's file name and the caption in two columns
    Karpathy    {"images": [{"filename": ..., "split": ..., "sentences": [{"raw": ...}, ...]}, ...]}
    COCO        {"images": [{"id": ..., "file_name": ...}, ...],
                 "annotations": [{"image_id": ..., "caption": ...}, ...]}

A file whose name ends in `.json` is one of the last two. Texts and names are taken without the spaces around
them. A line that ends before its caption has an empty one: it is counted and left out.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Self

from pydantic import AliasChoices, BaseModel, Field, ValidationError, model_validator

from winnow.data.tables import require_columns
from winnow.errors import UserError, unknown
from winnow.plan.catalogue import FileName, Frozen


class Captions(Frozen):
    """The file with the captions of an archive's images.

    Of delimited text, `image` and `caption` are columns, and `names` gives those of a file without a header
    line. The image is a file name, with or without its folder; a number after `#`, which Flickr's lists have,
    is not part of it. Quotes have a meaning in comma-separated files alone.
    """

    file: FileName
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    names: tuple[str, ...] = ()
    image: str = "image"
    caption: str = "caption"

    @model_validator(mode="after")
    def _columns_are_of_text(self) -> Self:
        if self.is_json and self.model_fields_set != {"file"}:
            raise ValueError(f"'{self.file}' is JSON, whose keys are known; give `file` alone.")
        return self

    @property
    def is_json(self) -> bool:
        """Whether the file is Karpathy's or COCO's."""
        return self.file.endswith(".json")


@dataclass(frozen=True)
class Captioned:
    """By file name of an image: its captions, in the file's order, and the split that Karpathy gave it."""

    path: Path
    texts: dict[str, list[str]] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)

    def of(self, member: str) -> list[str]:
        """Return an image's captions: those under its whole name, and those under its name in its folder."""
        return [text for key in _names(member) for text in self.texts.get(key, [])]

    def marked(self, members: Iterable[str], splits: Collection[str]) -> list[str]:
        """Return which of the images are of one of these splits, all of which the file has to know."""
        for split in splits:
            if split not in self.marks.values():
                raise unknown("split", split, set(self.marks.values()), f"{self.path}: images.split")
        return [name for name in members if any(self.marks.get(key) in splits for key in _names(name))]

    def add(self, name: str, text: str) -> None:
        """Note one caption of an image."""
        self.texts.setdefault(name.strip(), []).append(text.strip())


def _names(member: str) -> list[str]:
    return list(dict.fromkeys([member, PurePosixPath(member).name]))


def read_captions(about: Captions, path: Path) -> Captioned:
    """Return the captions in a file; `UserError` where it has another form than its options say."""
    return _listed(path) if about.is_json else _delimited(about, path)


class _Unquoted(csv.excel):
    quoting = csv.QUOTE_NONE


def _delimited(about: Captions, path: Path) -> Captioned:
    found, quotes = Captioned(path), about.delimiter == ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, csv.excel if quotes else _Unquoted, delimiter=about.delimiter)
            names = [name.strip() for name in about.names or tuple(next(reader, []))]
            require_columns([about.image, about.caption], names, path)
            image, caption = names.index(about.image), names.index(about.caption)
            for row in filter(None, reader):
                if len(row) > len(names) or len(row) <= image:
                    remedy = "quote captions that hold" if quotes else "take it out of captions that hold"
                    raise UserError(
                        f"{path}, line {reader.line_num}: {len(row)} fields where {len(names)} are expected;"
                        f" {remedy} the delimiter."
                    )
                found.add(
                    re.sub(r"#\d+$", "", row[image].strip()), row[caption] if caption < len(row) else ""
                )
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as delimited text ({error}).") from error
    return found


class _Sentence(BaseModel):
    raw: str


class _Image(BaseModel):
    name: str = Field(validation_alias=AliasChoices("filename", "file_name"))
    id: int | str | None = None
    split: str | None = None
    sentences: list[_Sentence] = []


class _Annotation(BaseModel):
    image_id: int | str
    caption: str


class _File(BaseModel):
    """What is read of Karpathy's and of COCO's files; they hold more."""

    images: list[_Image]
    annotations: list[_Annotation] = []


def _listed(path: Path) -> Captioned:
    try:
        file = _File.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(key) for key in first["loc"])
        raise UserError(
            f"{path}: {at or 'the whole'}: {first['msg']}. Accepted: `images` with `filename` and `sentences`"
            " (Karpathy), or `images` with `id` and `file_name`, and `annotations` with `image_id` and"
            " `caption` (COCO)."
        ) from error
    found, names = Captioned(path), {image.id: image.name for image in file.images if image.id is not None}
    for image in file.images:
        if image.split is not None:
            found.marks[image.name] = image.split
        for sentence in image.sentences:
            found.add(image.name, sentence.raw)
    for number, annotation in enumerate(file.annotations):
        if annotation.image_id not in names:
            raise UserError(
                f"{path}: annotations.{number}.image_id: {annotation.image_id!r} is the `id` of no image."
                " Fetch the file again, or take the annotation out."
            )
        found.add(names[annotation.image_id], annotation.caption)
    return found
