"""Members of tar and zip archives, read as streams: nothing is ever unpacked to disk.

Names that leave the archive's folder, links and devices are refused, and so is an archive that promises far
more data than its size can honestly hold.
"""

from __future__ import annotations

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from winnow.errors import UserError, one_of

# Real data sets compress at most some tens of times; a bomb reaches 1,000 (deflate) and more (xz).
MAX_RATIO = 200
ALWAYS_ALLOWED_BYTES = 1 << 30

_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
)

Member = tuple[str, int, Callable[[], IO[bytes]]]


def inspect(path: Path, read: set[str]) -> tuple[dict[str, int], dict[str, bytes]]:
    """Return, in one pass, the size in bytes of every file and the content of those to `read`."""
    sizes: dict[str, int] = {}
    contents: dict[str, bytes] = {}
    with _guard(path):
        for name, size, opened in _members(path):
            sizes[name] = size
            if name in read:
                with opened() as stream:
                    contents[name] = stream.read()
    require(path, read, sizes)
    return sizes, contents


def stream(path: Path, wanted: set[str]) -> Iterator[tuple[str, Callable[[int], bytes]]]:
    """Yield (name, read) for each wanted member, in the archive's order.

    `read(size)` gives the member's next bytes (-1: all of them) until the next member is asked for.
    """
    present = set()
    with _guard(path):
        for name, _, opened in _members(path):
            present.add(name)
            if name in wanted:
                with opened() as content:
                    yield name, _guarded_read(path, content)
    require(path, wanted, present)


def _guarded_read(path: Path, content: IO[bytes]) -> Callable[[int], bytes]:
    def read(size: int) -> bytes:
        with _guard(path):
            return content.read(size)

    return read


def require(path: Path, wanted: set[str], present: set[str] | dict[str, int]) -> None:
    """Raise `UserError` if a wanted member is not in the archive."""
    if missing := sorted(wanted - set(present)):
        shown = one_of(sorted(present)[:10]) + (", ..." if len(present) > 10 else "")
        raise UserError(f"{path}: the archive has no member '{missing[0]}'. It holds: {shown}.")


@contextmanager
def _guard(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise damaged(path, error) from error


def damaged(path: Path, reason: object) -> UserError:
    """Build the error for a file that cannot be decoded."""
    return UserError(
        f"{path}: damaged or not in the expected format ({reason}). Delete it and fetch it again."
    )


def _members(path: Path) -> Iterator[Member]:
    """Yield the regular files of the archive after checking names, types and the total size."""
    limit = max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * path.stat().st_size)
    seen: set[str] = set()
    total = 0
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    for name, size, opened in _zip_members(path) if is_zip else _tar_members(path):
        total += size
        if name in seen:
            raise UserError(f"{path}: refused, the archive holds '{name}' twice.")
        if total > limit:
            raise UserError(
                f"{path}: refused, it expands to more than {limit} bytes ({MAX_RATIO} times its size)."
            )
        seen.add(name)
        yield name, size, opened


def _tar_members(path: Path) -> Iterator[Member]:
    with tarfile.open(path, "r:*") as tar:
        for member in tar:
            name = _safe_name(path, member.name)
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise UserError(f"{path}: refused, '{name}' is a link, a device or another special file.")
            yield name, member.size, _tar_opener(tar, member)


def _tar_opener(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def opener() -> IO[bytes]:
        opened = tar.extractfile(member)
        assert opened is not None, "only regular files get here"
        return opened

    return opener


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = _safe_name(path, member.filename)
            if member.is_dir():
                continue
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG) or member.flag_bits & 0x1:
                raise UserError(f"{path}: refused, '{name}' is encrypted, a link or another special file.")
            yield name, member.file_size, _zip_opener(archive, member)


def _zip_opener(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: archive.open(member)


def _safe_name(path: Path, name: str) -> str:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or ":" in name.split("/")[0]:
        raise UserError(f"{path}: refused, the member name {name!r} points outside the archive's folder.")
    return str(pure)
