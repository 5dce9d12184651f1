"""Fetching published files: mirror first, then each URL with retries and resume; verified before use."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import requests
import urllib3
from tqdm import tqdm

from winnow.errors import UserError
from winnow.plan.catalogue import FileEntry

ATTEMPTS: Final = 5
LONGEST_PAUSE_S: Final = 60.0
TIMEOUT_S: Final = (10.0, 60.0)  # connect, read
CHUNK: Final = 1 << 20
RETRIED_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class FetchReport:
    """Where a file came from, how many bytes were moved now, in how long, and where a resume began."""

    source: str
    bytes: int
    seconds: float
    resumed_from: int


class _Again(Exception):
    """A failure that may pass: try the same URL again, after `pause_s` if the server asked for it."""

    def __init__(self, reason: str, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


class _GiveUp(Exception):
    """A failure that will not pass: try the next URL."""


def fetch(
    dataset: str,
    file: FileEntry,
    destination: Path,
    mirror: Path | None,
    *,
    progress: bool = True,
    sleep: Callable[[float], None] = time.sleep,
) -> FetchReport:
    """Bring one file of a dataset to the path `destination`, verified.

    `<mirror>/<dataset>/<name>` is copied if it exists; else each URL is tried until five attempts in a row
    bring nothing, continuing `<name>.part` beside the destination. Size and checksum are checked before the
    file gets its final name; a file that fails is moved to `quarantine/`. Raises `UserError` if no source
    works, the file is wrong, or the disk is full.
    """
    part = destination.with_name(f"{file.name}.part")
    transfer = _Transfer(dataset, file, part, progress)
    started = time.monotonic()
    with _disk_errors(destination, file):
        if is_right(file, destination):
            return FetchReport("already there", 0, time.monotonic() - started, 0)
        destination.parent.mkdir(parents=True, exist_ok=True)
        mirrored = mirror / dataset / file.name if mirror else None
        if mirrored is not None and mirrored.is_file():
            source = str(mirrored)
            transfer.copy(mirrored)
        elif file.urls:
            source = _from_urls(transfer, sleep)
        else:
            raise _no_source(dataset, file, mirrored)
        _settle(dataset, file, part, destination, source)
    return FetchReport(source, transfer.moved, time.monotonic() - started, transfer.resumed_from)


def _from_urls(transfer: _Transfer, sleep: Callable[[float], None]) -> str:
    """Download from the first URL that works and return it."""
    failures = []
    for url in transfer.file.urls:
        attempt, reached = 0, transfer.have
        while attempt < ATTEMPTS:
            try:
                transfer.download(url)
                return url
            except _GiveUp as error:
                failures.append(f"{url}: {error}")
                break
            except _Again as error:
                # A server that drops long transfers still gets there: only attempts in vain are counted.
                attempt = 1 if transfer.have >= reached + CHUNK else attempt + 1
                reached = max(reached, transfer.have)
                if attempt == ATTEMPTS:
                    failures.append(f"{url}: {error} ({ATTEMPTS} attempts)")
                else:
                    sleep(_pause(attempt) if error.pause_s is None else error.pause_s)
    raise _all_failed(transfer, failures)


def _all_failed(transfer: _Transfer, failures: list[str]) -> UserError:
    lines = [f"{transfer.dataset}: '{transfer.file.name}' could not be downloaded. Tried:", *failures]
    if transfer.have:
        lines.append(f"{transfer.have} bytes are kept in {transfer.part}; the next run continues there.")
    wanted = f"{transfer.dataset}/{transfer.file.name}"
    lines.append(
        f"If you have the file, set `mirror` in config.yaml (or WINNOW_MIRROR) to a folder with {wanted}."
    )
    return UserError("\n  ".join(lines))


def _pause(attempt: int) -> float:
    """Return seconds to wait: 1, 2, 4, ... with jitter, so that many clients do not come back together."""
    return min(LONGEST_PAUSE_S, 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.5)


@dataclass
class _Transfer:
    """One file on its way into its `.part`."""

    dataset: str
    file: FileEntry
    part: Path
    progress: bool
    session: requests.Session = field(default_factory=requests.Session)
    etags: dict[str, str] = field(default_factory=dict)
    moved: int = 0
    resumed_from: int = 0

    @property
    def have(self) -> int:
        """Return the number of bytes in the part."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def copy(self, mirrored: Path) -> None:
        """Copy the file from the mirror."""
        with mirrored.open("rb") as source:
            self._write(iter(lambda: source.read(CHUNK), b""), offset=0)

    def download(self, url: str) -> None:
        """Make the part complete from one URL, or raise `_Again` or `_GiveUp`."""
        have = self.have
        if have == self.file.bytes and is_right(self.file, self.part):
            self.resumed_from = self.resumed_from or have
            return
        offset = have if have < self.file.bytes else 0
        headers = self._headers(url, offset)
        try:
            with self.session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
                offset = self._checked_offset(response, url, offset)
                self.resumed_from = self.resumed_from or offset
                body = response.raw.stream(CHUNK, decode_content=False)
                self._write(_at_most(body, self.file.bytes - offset), offset)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _Again(_reason(error)) from error
        if self.have < self.file.bytes:
            raise _Again(f"the transfer ended after {self.have} of {self.file.bytes} bytes")

    def _headers(self, url: str, offset: int) -> dict[str, str]:
        # `identity`, and undecoded reads below: the checksum is of the file as published, not as transported.
        headers = {"Accept-Encoding": "identity", "User-Agent": "winnow"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if url in self.etags:
                headers["If-Range"] = self.etags[url]
        return headers

    def _checked_offset(self, response: requests.Response, url: str, offset: int) -> int:
        """Return the position at which the body begins, after checking status and announced size."""
        status = response.status_code
        if status == 416:
            self.part.unlink(missing_ok=True)
            raise _Again("the server refused to resume")
        if status in RETRIED_STATUS:
            raise _Again(f"status {status} {response.reason}", _retry_after(response))
        if status not in (200, 206):
            raise _GiveUp(f"status {status} {response.reason}")
        if (etag := response.headers.get("ETag", "")).startswith('"'):
            self.etags[url] = etag
        start, total = _content_range(response)
        if start not in (0, offset):
            self.part.unlink(missing_ok=True)
            raise _Again(f"the server resumed at byte {start} instead of {offset}")
        if total is not None and total.isdigit() and int(total) != self.file.bytes:
            raise _Again(f"the server announces {total} bytes, datasets.yaml states {self.file.bytes}")
        return start

    def _write(self, pieces: Iterator[bytes], offset: int) -> None:
        with (
            self.part.open("r+b" if offset else "wb") as target,
            tqdm(
                total=self.file.bytes,
                initial=offset,
                desc=f"{self.dataset}/{self.file.name}",
                unit="B",
                unit_scale=True,
                disable=not self.progress,
            ) as bar,
        ):
            target.seek(offset)
            for piece in pieces:
                target.write(piece)
                self.moved += len(piece)
                bar.update(len(piece))
            target.flush()
            os.fsync(target.fileno())


def _at_most(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    for piece in pieces:
        if len(piece) > size:
            raise _Again("more bytes arrived than datasets.yaml states")
        size -= len(piece)
        yield piece


def _content_range(response: requests.Response) -> tuple[int, str | None]:
    """Return the position at which the body begins and the announced size of the whole file, if any."""
    if response.status_code == 200:
        return 0, response.headers.get("Content-Length")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if match is None:
        raise _Again("the server sent a part of the file without saying which")
    return int(match[1]), match[2]


def _retry_after(response: requests.Response) -> float | None:
    seconds = response.headers.get("Retry-After", "")
    return min(LONGEST_PAUSE_S, float(seconds)) if seconds.isdigit() else None


def _reason(error: Exception) -> str:
    if isinstance(error, requests.ConnectionError):
        return f"no connection ({type(error).__name__})"
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "the server did not answer in time"
    return f"the transfer broke off ({type(error).__name__})"


def _settle(dataset: str, file: FileEntry, part: Path, destination: Path, source: str) -> None:
    """Give the verified part its final name, or put it in quarantine and raise `UserError`."""
    algorithm, expected = file.checksum
    size, found = part.stat().st_size, _digest(part, algorithm)
    if size == file.bytes and found == expected:
        os.replace(part, destination)
        return
    quarantined = destination.parent / "quarantine" / f"{file.name}.{_digest(part, 'sha256')[:8]}"
    quarantined.parent.mkdir(exist_ok=True)
    os.replace(part, quarantined)
    raise UserError(
        f"{dataset}: '{file.name}' is not the file that datasets.yaml describes.\n"
        f"  expected {algorithm} {expected}, {file.bytes} bytes\n"
        f"  got      {algorithm} {found}, {size} bytes\n"
        f"  source   {source}\n"
        f"  It was moved to {quarantined}. Run again to fetch it anew, or correct the source or the checksum."
    )


def is_right(file: FileEntry, path: Path) -> bool:
    """Whether a file is there with the size and checksum that `datasets.yaml` states."""
    algorithm, expected = file.checksum
    return path.is_file() and path.stat().st_size == file.bytes and _digest(path, algorithm) == expected


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _no_source(dataset: str, file: FileEntry, mirrored: Path | None) -> UserError:
    where = f"{mirrored} does not exist" if mirrored else "no mirror is set"
    return UserError(
        f"{dataset}: '{file.name}' has no public URL ({file.note.strip()}) and {where}. "
        f"Set `mirror` in config.yaml (or WINNOW_MIRROR) to a folder that holds {dataset}/{file.name}."
    )


@contextmanager
def _disk_errors(destination: Path, file: FileEntry) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(destination.parent).free
            reason = f"no space left for {file.bytes / 1e6:.1f} MB ({free / 1e6:.1f} MB free)"
        elif error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            reason = "not writable" if error.filename is None else f"no permission for {error.filename}"
        else:
            raise
        raise UserError(f"{destination}: {reason}.") from error
