"""The catalogue of datasets: `datasets.yaml` as typed, frozen entries.

A reader is a module of `winnow.data.readers` found by its file name; this module knows only that it has a
class `Options` and a function `read`, so that a new reader is one new file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, StringConstraints, model_validator

from winnow.errors import UserError, unknown
from winnow.plan.yamlfile import load_yaml, validate

READERS = "winnow.data.readers"

Split = Literal["train", "validation", "test", "unlabelled"]
DatasetName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$")]


class Frozen(BaseModel):
    """A model that cannot be changed and rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ReaderOptions(Frozen):
    """Base of every reader's `Options`."""

    def file_names(self) -> set[str]:
        """Return the files of the dataset that these options name."""
        return set()


class FileEntry(Frozen):
    """One file of a dataset, as published: where it is and how to know that it arrived whole.

    `of` names another dataset that lists the file too: it is kept, and fetched, once.
    """

    name: FileName
    of: DatasetName | None = None
    bytes: PositiveInt
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    md5: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = None
    urls: tuple[Url, ...] = ()
    note: str = ""

    @model_validator(mode="after")
    def _can_be_fetched_and_checked(self) -> Self:
        if self.sha256 is None and self.md5 is None:
            raise ValueError(
                f"file '{self.name}' has no checksum; give `sha256` (`md5` if only that is published)."
            )
        if not self.urls and not self.note:
            raise ValueError(
                f"file '{self.name}' has no `urls`; say in `note` why it comes from the mirror only."
            )
        return self

    @property
    def checksum(self) -> tuple[Literal["sha256", "md5"], str]:
        """Return the strongest known checksum as (algorithm, hexadecimal digest)."""
        return ("sha256", self.sha256) if self.sha256 else ("md5", self.md5 or "")


class Relabel(ReaderOptions):
    """Other labels for the training split than its own, which stay known to evaluations as the clean ones.

    `file` and `array` name published labels; `symmetric` replaces that share of the labels, drawn at random,
    by other classes.
    """

    file: FileName | None = None
    array: str | None = None
    symmetric: Annotated[float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.symmetric is None):
            raise ValueError("give `file` (with `array`) or `symmetric`, one of the two.")
        return self

    def file_names(self) -> set[str]:
        """Return the file with the labels, if they come from one."""
        return {self.file} if self.file else set()


class Recaption(Frozen):
    """Other training captions, or noise in them; the other splits and a held-out part keep theirs.

    `template` writes each caption anew: a name in braces stands for that column of the example's row, and
    `{label}` for the name of its class. After that, `swap` moves that share of the captions to other
    examples, `mask` takes that share of the words out, and `random_words` puts random words of the training
    captions in their places: the control that keeps lengths.
    """

    template: Annotated[str, StringConstraints(pattern=r"\{\w+\}")] | None = None
    swap: Annotated[float, Field(gt=0, le=1)] | None = None
    mask: Annotated[float, Field(gt=0, lt=1)] | None = None
    random_words: Annotated[float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if (self.template, self.swap, self.mask, self.random_words) == (None, None, None, None):
            raise ValueError("give `template`, `swap`, `mask` or `random_words`.")
        if self.mask and self.random_words:
            raise ValueError("`mask` and `random_words` change the same words; give one of them.")
        return self


CRAWLED, HUBBED = "crawl.json", "hub.json"
"""What a crawl, and the fetch of a test set, leave when they are whole."""

SHARDS = {CRAWLED: "shards", HUBBED: "set"}
"""The folder beside each of them in which its files lie."""


class Crawl(Frozen):
    """A published list of addresses and captions, from which the pairs are downloaded into shards.

    `list` is a text file with one pair per line, its `columns` separated by tabs; `header` says that its
    first line names them. Where `files` describes it, it is fetched and checked like any other. Where its
    checksum is not known to us it comes from the mirror, with a checksum that the user gives, and `address`
    says where it is published. `image_size` is the shorter side, in pixels, to which larger images are
    reduced; `shard_size` is the lines of a shard.
    """

    list: FileName
    columns: tuple[str, ...]
    header: bool = False
    address: Url | None = None
    image_size: PositiveInt = 256
    shard_size: PositiveInt = 10_000

    @model_validator(mode="after")
    def _columns_are_known(self) -> Self:
        for name in ("url", "caption"):
            if self.columns.count(name) != 1:
                raise ValueError(f"`columns` must name '{name}' once; it gives {', '.join(self.columns)}.")
        return self


class Hub(Frozen):
    """A test set as clip-benchmark publishes it at Hugging Face: its shards, class names and prompts.

    Its files are not listed here: their digests are taken when they come, of the `revision`'s commit.
    """

    repository: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Annotated[str, StringConstraints(pattern=r"^[\w.-]+$")] = "main"
    split: Annotated[str, StringConstraints(pattern=r"^[a-z_]+$")] = "test"


class DatasetEntry(Frozen):
    """One dataset. `shape` is (height, width, channels) in pixels; `splits` gives the number of examples.

    Data of kind `vectors` have float32 arrays in place of images: `shape` is (vectors of an example,
    dimensions, 1). Those of kind `benchmark` are test images of any size, which only models of images and
    text are measured on.
    """

    name: DatasetName
    title: str
    kind: Literal["images", "pairs", "text", "vectors", "benchmark"]
    licence: str
    homepage: Url
    reader: str
    options: dict[str, Any] = {}
    splits: dict[Split, PositiveInt]
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    classes: tuple[str, ...] = ()
    n_classes: PositiveInt | None = None
    files: tuple[FileEntry, ...] = ()
    crawl: Crawl | None = None
    hub: Hub | None = None
    relabel: Relabel | None = None
    recaption: Recaption | None = None
    note: str = ""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        needed: Split = "test" if self.kind == "benchmark" else "train"
        if needed not in self.splits:
            raise ValueError(f"`splits` lacks '{needed}'; it gives {', '.join(self.splits) or 'none'}.")
        if (self.hub is None) == (self.kind == "benchmark"):
            raise ValueError("`hub` and kind 'benchmark' go together; give both or none.")
        if (self.shape is None) != (self.kind in ("text", "benchmark")):
            raise ValueError(f"a dataset of kind '{self.kind}' needs {'no' if self.shape else 'a'} `shape`.")
        if self.recaption and self.kind != "pairs":
            raise ValueError(f"`recaption` is for data of kind 'pairs'; this is of kind '{self.kind}'.")
        if self.crawl is not None and self.kind != "pairs":
            raise ValueError(f"`crawl` brings images with captions; `kind` is '{self.kind}', not 'pairs'.")
        if self.classes and self.n_classes not in (None, len(self.classes)):
            raise ValueError(f"`n_classes` is {self.n_classes} but `classes` names {len(self.classes)}.")
        for what, names in (("class", self.classes), ("file", [file.name for file in self.files])):
            twice = sorted({name for name in names if list(names).count(name) > 1})
            if twice:
                raise ValueError(f"{what} '{twice[0]}' is listed twice.")
        return self

    @property
    def class_count(self) -> int | None:
        """Return the number of classes, or None for data without labels."""
        return len(self.classes) or self.n_classes

    def content(self) -> dict[str, Any]:
        """Return the fields that say what the data are; titles, licences and addresses change no result."""
        words: dict[str, Any] = {"title": True, "licence": True, "homepage": True, "note": True}
        words["files"] = {"__all__": {"urls", "note", "of"}}
        if self.recaption is None or self.recaption.template is None:
            words["recaption"] = self.recaption is None or {"template"}
        words["crawl"] = self.crawl is None or {"address"}
        words |= {"hub": True} if self.hub is None else {}
        return self.model_dump(mode="json", exclude=words)

    def sources(self) -> dict[str, str]:
        """Return the files that `prepare` reads: their names, and their places below the data folder.

        Of a crawl or a test set from a hub that is its manifest, beside which the shards lie.
        """
        manifest = CRAWLED if self.crawl else HUBBED if self.hub else None
        if manifest is not None:
            return {manifest: f"{self.name}/{manifest}"}
        return {file.name: f"{file.of or self.name}/{file.name}" for file in self.files}


def varied(entry: DatasetEntry, options: Mapping[str, Any], where: str) -> DatasetEntry:
    """Return the entry with these options over its own; `where` is the place to name in an error."""
    if not options:
        return entry
    together = entry.options | dict(options)
    checked: ReaderOptions = validate(reader_module(entry.reader).Options, together, where, at="options")
    changed = entry.model_copy(update={"options": together})
    named = checked.file_names() | (entry.relabel.file_names() if entry.relabel else set())
    _check_names(changed, checked, named, where)
    return changed


def reader_names() -> list[str]:
    """Return the names of all readers, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(READERS).__path__))


def reader_module(name: str) -> ModuleType:
    """Return the module of the reader `name`, with its `Options` and `read`."""
    return importlib.import_module(f"{READERS}.{name}")


def load_catalogue(path: Path) -> dict[str, DatasetEntry]:
    """Return the datasets of a `datasets.yaml` by name; any mistake in it is a `UserError`."""
    raw = load_yaml(path)
    return {str(name): _entry(path, str(name), fields, raw) for name, fields in raw.items()}


def _shared(path: Path, name: str, raw: dict[str, Any], file: Any) -> Any:
    """Return a file's description; `{name, of}` stands for the one that the dataset `of` gives it."""
    if not isinstance(file, dict) or set(file) != {"name", "of"}:
        return file
    where = f"{path}: {name}.files"
    if file["of"] not in raw or file["of"] == name:
        raise unknown("dataset", file["of"], set(raw) - {name}, f"{where}.of")
    listed = {found["name"]: found for found in raw[file["of"]].get("files", [])}
    if file["name"] not in listed:
        raise unknown("file", file["name"], listed, where)
    return listed[file["name"]] | {"of": file["of"]}


def _entry(path: Path, name: str, fields: object, raw: dict[str, Any]) -> DatasetEntry:
    if not isinstance(fields, dict):
        raise UserError(f"{path}: {name}: expected a mapping of keys to values, found {fields!r}.")
    if isinstance(fields.get("files"), list):
        fields = fields | {"files": [_shared(path, name, raw, file) for file in fields["files"]]}
    if "name" in fields:
        raise UserError(f"{path}: {name}.name: the key '{name}' is the name already; remove this line.")
    entry = validate(DatasetEntry, {**fields, "name": name}, path, at=name)
    if entry.shape is not None and entry.kind != "vectors" and entry.shape[0] != entry.shape[1]:
        raise UserError(
            f"{path}: {name}.shape: {entry.shape[0]} x {entry.shape[1]} pixels, but models here take square"
            " images. Give two equal sides; image_archive scales pictures to them with `resize: true`."
        )
    if entry.reader not in reader_names():
        raise unknown("reader", entry.reader, reader_names(), f"{path}: {name}.reader")
    options: ReaderOptions = validate(
        reader_module(entry.reader).Options, entry.options, path, at=f"{name}.options"
    )
    named = options.file_names() | (entry.relabel.file_names() if entry.relabel else set())
    _check_names(entry, options, named, f"{path}: {name}")
    return entry


def _check_names(entry: DatasetEntry, options: ReaderOptions, named: set[str], where: str) -> None:
    """Check that the options speak of exactly the entry's files and splits."""
    listed = {file.name for file in entry.files}
    named = named | ({entry.crawl.list} & listed if entry.crawl else set())
    for missing in sorted(named - listed):
        raise unknown("file", missing, listed, f"{where}.options")
    for unused in sorted(listed - named):
        raise UserError(f"{where}.files: '{unused}' is not named in `options`, so nothing would read it.")
    for split in sorted(set(entry.splits) ^ set(getattr(options, "splits", entry.splits))):
        raise UserError(f"{where}: split '{split}' must be both in `splits` and in `options.splits`.")
