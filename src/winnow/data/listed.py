"""Which images of an archive a published list names, by their names, their numbers or a flag."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from winnow.data.arrays import ArrayRef, load_array
from winnow.errors import UserError
from winnow.plan.catalogue import FileName, Frozen


class Flags(Frozen):
    """Members of the archive with a number and a name, or a number and a flag, on each line.

    The images are those whose number has `flag`; as in CUB-200-2011.
    """

    names: str
    flags: str
    flag: str


List = FileName | ArrayRef | Flags
"""A file with a name per line, an array of names or of numbers that count the images from 1, or flags."""


def named_by(
    wanted: List, images: Sequence[str], files: dict[str, Path], contents: dict[str, bytes], path: Path
) -> list[str]:
    """Return the images that the list names, sorted.

    images: sorted names of members of the archive `path`. Lists may leave out folders and endings. contents:
    of the members that `members_of` asks for. Raises `UserError` for a name or a number that no image has.
    """
    if isinstance(wanted, Flags):
        names = _flagged(wanted, contents, path)
        return _found(names, images, f"{path}: {wanted.names}")
    if isinstance(wanted, str):
        lines = files[wanted].read_text(encoding="utf-8").splitlines()
        return _found((line.strip() for line in lines if line.strip()), images, str(files[wanted]))
    where = f"{files[wanted.file]}: {wanted.array or 'a list'}"
    listed = load_array(wanted, files)
    if listed.ndim != 1:
        raise UserError(f"{where}: a list of shape (n,) is needed, found {listed.shape}.")
    if listed.dtype.kind in "US":
        return _found((str(name) for name in listed), images, where)
    # MATLAB keeps whole numbers as floating ones unless told otherwise.
    if listed.dtype.kind not in "iuf" or not (listed == np.trunc(listed.astype(float))).all():
        raise UserError(f"{where}: names or whole numbers are needed, found {listed.dtype}.")
    places = listed.astype(np.int64)
    if len(places) and (places.min() < 1 or places.max() > len(images)):
        raise UserError(f"{where}: counts images to {places.max()}; the archive has {len(images)}.")
    return [images[place - 1] for place in sorted(set(places.tolist()))]


def members_of(wanted: List | None) -> set[str]:
    """Return the members of the archive that a list is in."""
    return {wanted.names, wanted.flags} if isinstance(wanted, Flags) else set()


def files_of(wanted: List | None) -> set[str]:
    """Return the files of the dataset that a list is in."""
    if isinstance(wanted, ArrayRef):
        return {wanted.file}
    return {wanted} if isinstance(wanted, str) else set()


def known_as(images: Iterable[str]) -> dict[str, list[str]]:
    """Return the images by all that lists call them: with and without folders, with and without endings."""
    found: dict[str, list[str]] = {}
    for name in images:
        for path in (PurePosixPath(name), PurePosixPath(name).with_suffix("")):
            for start in range(len(path.parts)):
                found.setdefault("/".join(path.parts[start:]), []).append(name)
    return {key: list(dict.fromkeys(meant)) for key, meant in found.items()}


def _found(names: Iterable[str], images: Sequence[str], where: str) -> list[str]:
    here, found = known_as(images), set()
    for name in names:
        meant = here.get(name, [])
        if not meant:
            raise UserError(f"{where}: lists '{name}', which `members` does not match in the archive.")
        if len(meant) > 1:
            raise UserError(f"{where}: lists '{name}', which may be {meant[0]} or {meant[1]}.")
        found.update(meant)
    return sorted(found)


def _flagged(wanted: Flags, contents: dict[str, bytes], path: Path) -> list[str]:
    names, flags = (
        _numbered(contents[member], f"{path}: {member}") for member in (wanted.names, wanted.flags)
    )
    chosen = [names[number] for number, flag in flags.items() if flag == wanted.flag and number in names]
    if not chosen:
        raise UserError(f"{path}: {wanted.flags} gives no image the flag '{wanted.flag}'.")
    return chosen


def _numbered(content: bytes, where: str) -> dict[str, str]:
    found = {}
    for number, line in enumerate(content.decode().splitlines(), start=1):
        key, _, value = line.strip().partition(" ")
        if not value:
            raise UserError(f"{where}, line {number}: a number and a name or a flag are needed.")
        found[key] = value
    return found
