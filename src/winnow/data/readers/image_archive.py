"""Encoded images in a tar or zip archive, labelled by their folder, by a text or by an array, or captioned.

A split's `members` is a pattern on member names, `{label}` standing for the folder that names the class:
`train/{label}/*.jpg`. `annotations` names a member with one line per image (file name, separator, label), as
the validation images of Tiny-ImageNet have; `partial` ones leave out the images that they do not name. Labels
follow the lines of the member `class_order`, else `classes` of the entry, else the sorted folder names; or
`labels` is an array with that of every image that `members` matches, the first class being `first_label`.
Examples are in the order of their sorted member names, unless `order` gives the labels in another published
order: the k-th image of a class is then the k-th occurrence of its label. `captions` is a file of the dataset
with the captions (`winnow.data.captions`): an image has as many as name it, and one that has none is left
out. Of the images that `members` matches, a split takes those that are `listed` (`winnow.data.listed`), those
that Karpathy's file of captions has `marked` as of one of these splits of his, or the `part` of the sorted
names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import numpy as np
from pydantic import NonNegativeInt, model_validator

from winnow.data import archive
from winnow.data.arrays import ArrayRef, integer_labels, load_array
from winnow.data.batch import BATCH, Batch, Labels
from winnow.data.captions import Captioned, Captions, read_captions
from winnow.data.listed import List, files_of, known_as, members_of, named_by
from winnow.data.pictures import Fit, decode_all
from winnow.data.shards import NO_CAPTION
from winnow.data.tables import Part, refuse_overlaps
from winnow.errors import UserError, unknown
from winnow.plan.catalogue import DatasetEntry, FileName, Frozen, ReaderOptions, Split

if TYPE_CHECKING:
    import pandas

Mark = str | int | None
"""The name of an image's class, or its number, or nothing."""

NO_TEXT: Final = "caption that is empty or lacking"


class Annotations(Frozen):
    """A text member with one image per line; `name` and `label` are the positions of the two fields.

    to_end: the label is all the rest of the line. partial: images without a line are left out, not refused.
    """

    member: str
    separator: str = "\t"
    name: NonNegativeInt = 0
    label: NonNegativeInt = 1
    to_end: bool = False
    partial: bool = False


class SplitImages(Frozen):
    """Which members are the images of a split, and where their labels come from."""

    members: str
    annotations: Annotations | None = None
    labels: ArrayRef | None = None
    first_label: NonNegativeInt = 0
    order: ArrayRef | None = None
    listed: List | None = None
    marked: tuple[str, ...] = ()
    part: Part | None = None

    @model_validator(mode="after")
    def _one_source_of_labels(self) -> Self:
        if self.members.count("{label}") > 1:
            raise ValueError("`members` holds `{label}` more than once.")
        if sum(("{label}" in self.members, self.annotations is not None, self.labels is not None)) > 1:
            raise ValueError("labels come from `{label}` in `members`, `annotations` or `labels`: name one.")
        if self.order and not self.labelled:
            raise ValueError("`order` needs labels: write `{label}` in `members` or give `annotations`.")
        if self.first_label and not self.labels:
            raise ValueError("`first_label` is of an array of labels; give `labels`.")
        if sum(map(bool, (self.listed, self.marked, self.part))) > 1:
            raise ValueError("`listed`, `marked` and `part` choose the images of a split; give one of them.")
        return self

    @property
    def chooses(self) -> bool:
        """Whether a published list says which of its members' images are the split's."""
        partial = self.annotations is not None and self.annotations.partial
        return bool(self.listed or self.marked or partial)

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return "{label}" in self.members or self.annotations is not None or self.labels is not None


class Options(ReaderOptions):
    """Options of the reader `image_archive`."""

    archive: FileName
    splits: dict[Split, SplitImages]
    captions: Captions | None = None
    class_order: str | None = None
    resize: bool = False
    fit: Fit = "stretch"

    @model_validator(mode="after")
    def _splits_are_apart(self) -> Self:
        rest = {name: split for name, split in self.splits.items() if not split.chooses}
        refuse_overlaps((name, {split.members}, split.part) for name, split in rest.items())
        marks = Counter(mark for split in self.splits.values() for mark in set(split.marked))
        if marks and not (self.captions and self.captions.is_json):
            raise ValueError("`marked` needs `captions` in a .json file, which gives each image a split.")
        for mark, n in marks.items():
            if n > 1:
                raise ValueError(f"`marked`: two splits take the images of '{mark}'; name it once.")
        return self

    def file_names(self) -> set[str]:
        """Return the archive, and the files with published orders, lists and captions."""
        splits = self.splits.values()
        arrays = {array.file for split in splits for array in (split.order, split.labels) if array}
        lists = {name for split in splits for name in files_of(split.listed)}
        return {self.archive} | arrays | lists | ({self.captions.file} if self.captions else set())


class _Place(NamedTuple):
    split: Split
    row: int
    label: int | None
    captions: tuple[str, ...]


def read(entry: DatasetEntry, files: dict[str, Path]) -> Iterator[Batch]:
    """Yield the images as the archive is unpacked, with the rows that the published order gives them."""
    options = Options.model_validate(entry.options)
    path = files[options.archive]
    places, classes, left_out = _plan(entry, options, files)
    yield from (Batch(split, counts=counts) for split, counts in left_out.items() if counts)
    waiting: dict[Split, list[tuple[_Place, str, bytes]]] = {split: [] for split in options.splits}
    for name, read_bytes in archive.stream(path, set(places)):
        held = waiting[places[name].split]
        held.append((places[name], f"{path}: {name}", read_bytes(-1)))
        if len(held) == BATCH:
            yield _batch(entry, options, held, classes)
            held.clear()
    for held in waiting.values():
        if held:
            yield _batch(entry, options, held, classes)


def _batch(
    entry: DatasetEntry, options: Options, held: list[tuple[_Place, str, bytes]], classes: tuple[str, ...]
) -> Batch:
    assert entry.shape is not None, "the catalogue requires a shape for images"
    images = decode_all(
        ((where, content) for _, where, content in held), entry.shape, options.resize, options.fit
    )
    labels = [place.label for place, _, _ in held if place.label is not None]
    return Batch(
        held[0][0].split,
        images=images,
        labels=np.array(labels, dtype=np.int64) if labels else None,
        table=_table(held) if options.captions else None,
        rows=np.array([place.row for place, _, _ in held], dtype=np.int64),
        classes=classes,
    )


def _table(held: list[tuple[_Place, str, bytes]]) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame({"caption": [list(place.captions) for place, _, _ in held]})


def _plan(
    entry: DatasetEntry, options: Options, files: dict[str, Path]
) -> tuple[dict[str, _Place], tuple[str, ...], dict[Split, dict[str, int]]]:
    """Return the place of every image member, the class names in label order, and what is left out."""
    path = files[options.archive]
    texts = {split.annotations.member for split in options.splits.values() if split.annotations}
    texts |= {options.class_order} if options.class_order else set()
    texts |= {member for split in options.splits.values() for member in members_of(split.listed)}
    sizes, contents = archive.inspect(path, texts)
    about = options.captions
    captions = read_captions(about, files[about.file]) if about else None
    folders, left_out = {}, {}
    for split, wanted in options.splits.items():
        found = _labelled(split, wanted, sizes, files, contents, path)
        chosen = _chosen(found, wanted, files, contents, captions, path)
        folders[split], left_out[split] = _with_captions(split, chosen, captions)
    if options.class_order:
        lines = contents[options.class_order].decode().splitlines()
        classes = tuple(line.strip() for line in lines if line.strip())
    else:
        classes = entry.classes or tuple(
            sorted({f for found in folders.values() for f in found.values() if isinstance(f, str)})
        )
    index = {name: label for label, name in enumerate(classes)}
    places: dict[str, _Place] = {}
    for split, found in folders.items():
        labels = [_label(folder, index, f"{path}: {member}") for member, folder in found.items()]
        if twice := sorted(set(found) & set(places)):
            raise UserError(f"{path}: '{twice[0]}' is of two splits, {places[twice[0]].split} and {split}.")
        order = options.splits[split].order
        rows = _rows(labels, order, files, classes) if order else range(len(labels))
        places |= {
            member: _Place(split, int(r), k, tuple(filter(None, captions.of(member) if captions else [])))
            for member, r, k in zip(found, rows, labels, strict=True)
        }
    return places, classes, left_out


def _with_captions(
    split: Split, chosen: dict[str, Mark], captions: Captioned | None
) -> tuple[dict[str, Mark], dict[str, int]]:
    """Return the images that have a caption, and how much is left out, by reason."""
    if captions is None:
        return chosen, {}
    texts = {name: captions.of(name) for name in chosen}
    kept = {name: folder for name, folder in chosen.items() if any(texts[name])}
    if chosen and not kept:
        raise UserError(
            f"{captions.path}: has no caption of an image of split {split}, like '{next(iter(chosen))}'."
            f" It has captions of: {', '.join(sorted(captions.texts)[:3])}, ..."
        )
    empty = sum(not text for own in texts.values() for text in own)
    return kept, dict(+Counter({NO_CAPTION: len(chosen) - len(kept), NO_TEXT: empty}))


def _chosen(
    found: dict[str, Mark],
    wanted: SplitImages,
    files: dict[str, Path],
    contents: dict[str, bytes],
    captions: Captioned | None,
    path: Path,
) -> dict[str, Mark]:
    """Return the members of a split that its list names, that are marked so, or that are in its part."""
    if wanted.marked:
        assert captions is not None, "the options ask for captions"
        return {name: found[name] for name in captions.marked(found, wanted.marked)}
    if wanted.part is not None:
        inside = wanted.part.holds(np.arange(len(found)))
        return {name: found[name] for name, is_in in zip(found, inside, strict=True) if is_in}
    if wanted.listed is None:
        return found
    return {name: found[name] for name in named_by(wanted.listed, list(found), files, contents, path)}


def _labelled(
    split: Split,
    wanted: SplitImages,
    sizes: dict[str, int],
    files: dict[str, Path],
    contents: dict[str, bytes],
    path: Path,
) -> dict[str, Mark]:
    """Return the class folder, annotation or label of each member of a split, in sorted order of members."""
    pattern = _pattern(wanted.members)
    matches = {name: match for name in sorted(sizes) if (match := pattern.fullmatch(name))}
    if not matches:
        shown = ", ".join(sorted(sizes)[:3])
        raise UserError(
            f"{path}: no member matches '{wanted.members}' (split {split}). It holds: {shown}, ..."
        )
    if wanted.labels is not None:
        where = f"{files[wanted.labels.file]}: {wanted.labels.array or 'labels'}"
        labels = integer_labels(load_array(wanted.labels, files), where) - wanted.first_label
        if len(labels) != len(matches):
            raise UserError(f"{where}: {len(labels)} labels for {len(matches)} images of '{wanted.members}'.")
        return dict(zip(matches, labels.tolist(), strict=True))
    if wanted.annotations is None:
        return {name: match.groupdict().get("label") for name, match in matches.items()}
    return _noted(wanted.annotations, list(matches), contents[wanted.annotations.member], path)


def _noted(annotations: Annotations, images: list[str], content: bytes, path: Path) -> dict[str, Mark]:
    """Return the label that the annotations give each image; without one it is refused or left out."""
    noted: dict[str, Mark] = {}
    by_name = known_as(images)
    for key, label in _annotated(annotations, content, path).items():
        noted |= dict.fromkeys(by_name.get(key, ()), label)
    for name in images:
        if name not in noted and not annotations.partial:
            raise UserError(f"{path}: '{annotations.member}' gives no label for '{name}'.")
    return {name: noted[name] for name in images if name in noted}


def _annotated(annotations: Annotations, content: bytes, path: Path) -> dict[str, str]:
    noted = {}
    for number, line in enumerate(content.decode().splitlines(), start=1):
        fields = line.split(annotations.separator, annotations.label if annotations.to_end else -1)
        if len(fields) <= max(annotations.name, annotations.label):
            raise UserError(f"{path}: {annotations.member}, line {number}: only {len(fields)} field(s).")
        noted[fields[annotations.name]] = fields[annotations.label].strip()
    return noted


def _label(folder: Mark, index: dict[str, int], where: str) -> int | None:
    if folder is None or isinstance(folder, int):
        return folder
    if folder not in index:
        raise unknown("class", folder, index, where)
    return index[folder]


def _rows(
    labels: list[int | None], order: ArrayRef, files: dict[str, Path], classes: tuple[str, ...]
) -> Labels:
    """Return the row of each image: the k-th image of a class gets the k-th row with that class's label."""
    where = f"{files[order.file]}: {order.array or 'labels'}"
    published, found = (integer_labels(load_array(order, files), where), np.array(labels, dtype=np.int64))
    rows = np.empty(len(found), dtype=np.int64)
    for label in np.union1d(published, found):
        theirs, ours = (np.flatnonzero(published == label), np.flatnonzero(found == label))
        if len(theirs) != len(ours):
            name = classes[label] if 0 <= label < len(classes) else label
            raise UserError(
                f"{where}: {len(theirs)} labels for class '{name}', but {len(ours)} images of it."
            )
        rows[ours] = theirs
    return rows


def _pattern(members: str) -> re.Pattern[str]:
    """Translate `*`, `?` and `{label}` to a regular expression; none of them crosses a slash."""
    wild = {"*": "[^/]*", "?": "[^/]", "{label}": "(?P<label>[^/]+)"}
    pieces = re.split(r"(\*|\?|\{label\})", members)
    return re.compile("".join(wild.get(piece, re.escape(piece)) for piece in pieces))
