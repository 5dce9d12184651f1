"""Downloads against a local server that misbehaves in every way that real ones do."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from winnow.data.download import ATTEMPTS, CHUNK, LONGEST_PAUSE_S, FetchReport, fetch
from winnow.errors import UserError
from winnow.plan.catalogue import FileEntry

CONTENT = bytes(range(256)) * 1200
HALF = len(CONTENT) // 2


@dataclass
class Server:
    """What the server holds and does; `requests` keeps the path, Range and If-Range of each request."""

    address: str = ""
    content: bytes = CONTENT
    statuses: list[int] = field(default_factory=list)
    cut_after: list[int] = field(default_factory=list)
    ranges: bool = True
    announce: bool = True
    etag: str = '"v1"'
    encoding: str = ""
    retry_after: str = ""
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)

    def url(self, name: str = "data.bin") -> str:
        """Return the address of a file."""
        return f"{self.address}/{name}"


def handler_of(server: Server) -> type[BaseHTTPRequestHandler]:
    """Return a request handler that serves as `server` says."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
            server.requests.append((self.path, asked, condition))
            status = server.statuses.pop(0) if server.statuses else 200
            if "missing" in self.path:
                status = 404
            if status != 200:
                self.send_response(status)
                if server.retry_after:
                    self.send_header("Retry-After", server.retry_after)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = 0
            match = re.fullmatch(r"bytes=(\d+)-", asked or "")
            if match and server.ranges and condition in (None, server.etag):
                start = int(match[1])
            self.send_response(206 if start else 200)
            if start:
                last = len(server.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.content)}")
            if server.etag:
                self.send_header("ETag", server.etag)
            if server.encoding:
                self.send_header("Content-Encoding", server.encoding)
            if server.announce:
                self.send_header("Content-Length", str(len(server.content) - start))
            self.end_headers()
            body = server.content[start:]
            self.wfile.write(body[: server.cut_after.pop(0)] if server.cut_after else body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve on 127.0.0.1."""
    state = Server()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_of(state)) as http:
        state.address = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield state
        http.shutdown()
        thread.join()


def entry_of(*urls: str, content: bytes = CONTENT, **changes: Any) -> FileEntry:
    """Describe `data.bin`."""
    fields: dict[str, Any] = {
        "name": "data.bin",
        "urls": urls,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "note": "made by this test",
    }
    return FileEntry(**(fields | changes))


@pytest.fixture
def get(tmp_path: Path) -> Callable[..., FetchReport]:
    """Return `fetch` with its common arguments; pauses are recorded in `get.pauses` and take no time."""
    pauses: list[float] = []

    def run(file: FileEntry, mirror: Path | None = None) -> FetchReport:
        return fetch(
            "toy",
            file,
            tmp_path / "data" / file.name,
            mirror,
            progress=False,
            sleep=pauses.append,
        )

    run.pauses = pauses  # type: ignore[attr-defined]
    return run


def arrived(tmp_path: Path) -> bool:
    """Return whether the right file is at its place and nothing else is."""
    folder = tmp_path / "data"
    return [path.name for path in folder.iterdir()] == ["data.bin"] and (
        folder / "data.bin"
    ).read_bytes() == CONTENT


def put_part(tmp_path: Path, content: bytes) -> Path:
    """Leave a partial file as a killed download does."""
    part = tmp_path / "data" / "data.bin.part"
    part.parent.mkdir()
    part.write_bytes(content)
    return part


def test_a_plain_download(tmp_path: Path, server: Server, get: Any) -> None:
    report = get(entry_of(server.url()))
    assert arrived(tmp_path)
    assert (report.source, report.bytes, report.resumed_from) == (
        server.url(),
        len(CONTENT),
        0,
    )


def test_md5_serves_where_no_sha256_is_published(tmp_path: Path, server: Server, get: Any) -> None:
    get(entry_of(server.url(), sha256=None, md5=hashlib.md5(CONTENT).hexdigest()))
    assert arrived(tmp_path)
    (tmp_path / "data" / "data.bin").unlink()
    with pytest.raises(UserError, match=r"expected md5 0{32}"):
        get(entry_of(server.url(), sha256=None, md5="0" * 32))


def test_a_file_that_is_there_is_not_fetched_again_but_a_wrong_one_is(
    tmp_path: Path, server: Server, get: Any
) -> None:
    get(entry_of(server.url()))
    assert get(entry_of(server.url())).source == "already there"
    assert len(server.requests) == 1
    (tmp_path / "data" / "data.bin").write_bytes(CONTENT[::-1])
    get(entry_of(server.url()))
    assert arrived(tmp_path)


def test_a_partial_file_is_continued(tmp_path: Path, server: Server, get: Any) -> None:
    put_part(tmp_path, CONTENT[:1000])
    report = get(entry_of(server.url()))
    assert arrived(tmp_path)
    assert server.requests == [("/data.bin", "bytes=1000-", None)]
    assert (report.resumed_from, report.bytes) == (1000, len(CONTENT) - 1000)


def test_a_complete_partial_file_needs_no_request(tmp_path: Path, server: Server, get: Any) -> None:
    put_part(tmp_path, CONTENT)
    assert get(entry_of(server.url())).bytes == 0
    assert arrived(tmp_path)
    assert server.requests == []


@pytest.mark.parametrize("left", [CONTENT + b"more", CONTENT[::-1]], ids=["too long", "same size, wrong"])
def test_a_useless_partial_file_is_replaced(tmp_path: Path, server: Server, get: Any, left: bytes) -> None:
    put_part(tmp_path, left)
    assert get(entry_of(server.url())).resumed_from == 0
    assert arrived(tmp_path)


def test_a_server_without_ranges_starts_again(tmp_path: Path, server: Server, get: Any) -> None:
    server.ranges = False
    put_part(tmp_path, b"x" * 1000)
    report = get(entry_of(server.url()))
    assert arrived(tmp_path)
    assert (report.resumed_from, report.bytes) == (0, len(CONTENT))


def test_a_broken_transfer_is_continued_with_the_servers_etag(
    tmp_path: Path, server: Server, get: Any
) -> None:
    server.cut_after = [HALF, 10]
    report = get(entry_of(server.url()))
    assert arrived(tmp_path)
    assert [request[1:] for request in server.requests] == [
        (None, None),
        (f"bytes={HALF}-", '"v1"'),
        (f"bytes={HALF + 10}-", '"v1"'),
    ]
    assert report.resumed_from == HALF


def test_a_file_that_changes_meanwhile_starts_again(tmp_path: Path, server: Server) -> None:
    server.content, server.cut_after = CONTENT[::-1], [HALF]

    def change(_: float) -> None:
        server.content, server.etag = CONTENT, '"v2"'

    fetch(
        "toy",
        entry_of(server.url()),
        tmp_path / "data" / "data.bin",
        None,
        progress=False,
        sleep=change,
    )
    assert arrived(tmp_path)


def test_server_errors_are_retried_with_growing_bounded_pauses(
    tmp_path: Path, server: Server, get: Any
) -> None:
    server.statuses = [500, 503, 429]
    get(entry_of(server.url()))
    assert arrived(tmp_path)
    assert len(get.pauses) == 3
    for power, pause in enumerate(get.pauses):
        assert 0.5 * 2**power <= pause <= min(LONGEST_PAUSE_S, 1.5 * 2**power)


def test_the_servers_own_pause_is_kept_within_bounds(server: Server, get: Any) -> None:
    server.statuses, server.retry_after = [503, 503], "7"
    get(entry_of(server.url()))
    assert get.pauses == [7.0, 7.0]
    server.statuses, server.retry_after = [503], "86400"
    get(entry_of(server.url(), name="again.bin"))
    assert get.pauses[2:] == [LONGEST_PAUSE_S]


def test_attempts_are_bounded(server: Server, get: Any) -> None:
    server.statuses = [500] * 50
    with pytest.raises(UserError, match=rf"status 500 .*\({ATTEMPTS} attempts\)"):
        get(entry_of(server.url()))
    assert len(server.requests) == ATTEMPTS


def test_a_truncated_transfer_keeps_its_part_for_the_next_run(
    tmp_path: Path, server: Server, get: Any
) -> None:
    server.cut_after = [100] * ATTEMPTS
    with pytest.raises(UserError, match=r"broke off.*\n.*500 bytes are kept in .*data\.bin\.part"):
        get(entry_of(server.url()))
    assert (tmp_path / "data" / "data.bin.part").read_bytes() == CONTENT[: 100 * ATTEMPTS]
    assert get(entry_of(server.url())).resumed_from == 100 * ATTEMPTS
    assert arrived(tmp_path)


def test_attempts_that_bring_much_do_not_count(tmp_path: Path, server: Server, get: Any) -> None:
    size = CHUNK + 10
    server.content, server.cut_after = CONTENT * 40, [size] * (2 * ATTEMPTS)
    get(entry_of(server.url(), content=CONTENT * 40))
    assert (tmp_path / "data" / "data.bin").read_bytes() == CONTENT * 40
    assert len(server.requests) == 2 * ATTEMPTS + 1
    assert max(get.pauses) <= 1.5


def test_a_server_that_starts_again_and_breaks_off_each_time_is_given_up(server: Server, get: Any) -> None:
    server.content, server.ranges, server.cut_after = CONTENT * 40, False, [3 * CHUNK] * 50
    with pytest.raises(UserError, match="broke off"):
        get(entry_of(server.url(), content=CONTENT * 40))
    assert len(server.requests) == ATTEMPTS


def test_a_transfer_that_ends_early_without_a_stated_length(tmp_path: Path, server: Server, get: Any) -> None:
    server.announce, server.cut_after = False, [HALF]
    get(entry_of(server.url()))
    assert arrived(tmp_path)
    assert len(server.requests) == 2


@pytest.mark.parametrize("content", [CONTENT + b"extra", CONTENT[:-5]], ids=["longer", "shorter"])
def test_a_wrong_announced_size_is_named(server: Server, get: Any, content: bytes) -> None:
    server.content = content
    with pytest.raises(
        UserError,
        match=rf"announces {len(content)} bytes, datasets\.yaml states {len(CONTENT)}",
    ):
        get(entry_of(server.url()))


def test_more_bytes_than_stated_are_not_written(tmp_path: Path, server: Server, get: Any) -> None:
    server.announce, server.content = False, CONTENT * 3
    with pytest.raises(UserError, match="more bytes arrived"):
        get(entry_of(server.url()))
    part = tmp_path / "data" / "data.bin.part"
    assert not part.exists() or part.stat().st_size <= len(CONTENT)


def test_an_encoding_label_does_not_change_the_stored_bytes(tmp_path: Path, server: Server, get: Any) -> None:
    server.encoding = "gzip"
    get(entry_of(server.url()))
    assert arrived(tmp_path)


def test_a_wrong_checksum_goes_to_quarantine(tmp_path: Path, server: Server, get: Any) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(UserError) as caught:
        get(entry_of(server.url()))
    bad = hashlib.sha256(CONTENT[::-1]).hexdigest()
    quarantined = tmp_path / "data" / "quarantine" / f"data.bin.{bad[:8]}"
    for part in (
        "toy",
        "data.bin",
        bad,
        hashlib.sha256(CONTENT).hexdigest(),
        server.url(),
        str(quarantined),
    ):
        assert part in str(caught.value)
    assert quarantined.read_bytes() == CONTENT[::-1]
    assert not (tmp_path / "data" / "data.bin").exists()
    assert not (tmp_path / "data" / "data.bin.part").exists()


def test_404_moves_on_to_the_next_url_at_once(tmp_path: Path, server: Server, get: Any) -> None:
    report = get(entry_of(server.url("missing.bin"), server.url()))
    assert arrived(tmp_path)
    assert report.source == server.url()
    assert get.pauses == []


def test_when_all_urls_fail_each_is_listed_with_the_mirror_as_a_way_out(server: Server, get: Any) -> None:
    urls = (server.url("missing1.bin"), server.url("missing2.bin"))
    with pytest.raises(UserError) as caught:
        get(entry_of(*urls))
    for part in (*urls, "404", "`mirror`", "WINNOW_MIRROR", "toy/data.bin"):
        assert part in str(caught.value)


def test_a_server_that_is_not_there(get: Any) -> None:
    with pytest.raises(UserError, match="no connection"):
        get(entry_of("http://127.0.0.1:9/data.bin"))
    assert len(get.pauses) == ATTEMPTS - 1


def test_the_mirror_comes_first(tmp_path: Path, server: Server, get: Any) -> None:
    mirrored = tmp_path / "mirror" / "toy" / "data.bin"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(CONTENT)
    report = get(entry_of(server.url()), tmp_path / "mirror")
    assert arrived(tmp_path)
    assert report.source == str(mirrored)
    assert server.requests == []


@pytest.mark.parametrize("content", [CONTENT[::-1], CONTENT + b"x", b""], ids=["other", "longer", "empty"])
def test_a_wrong_file_in_the_mirror_is_refused_and_left_there(
    tmp_path: Path, server: Server, get: Any, content: bytes
) -> None:
    mirrored = tmp_path / "mirror" / "toy" / "data.bin"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(content)
    with pytest.raises(UserError, match=r"(?s)not the file.*source .*mirror/toy/data\.bin"):
        get(entry_of(server.url()), tmp_path / "mirror")
    assert mirrored.read_bytes() == content
    assert not (tmp_path / "data" / "data.bin").exists()


def test_a_file_missing_from_the_mirror_comes_from_its_url(tmp_path: Path, server: Server, get: Any) -> None:
    assert get(entry_of(server.url()), tmp_path / "mirror").source == server.url()


def test_a_mirror_only_file_that_is_missing_is_named(tmp_path: Path, get: Any) -> None:
    with pytest.raises(
        UserError,
        match=r"no public URL \(made by this test\) and .*mirror/toy/data\.bin",
    ):
        get(entry_of(), tmp_path / "mirror")
    with pytest.raises(UserError, match="no mirror is set"):
        get(entry_of())


def test_a_full_disk_is_a_readable_error(tmp_path: Path, server: Server, get: Any) -> None:
    part = put_part(tmp_path, b"")
    part.unlink()
    part.symlink_to("/dev/full")
    with pytest.raises(UserError, match="no space left"):
        get(entry_of(server.url()))


def test_progress_is_shown_when_asked_for(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(
        "toy",
        entry_of(server.url()),
        tmp_path / "data" / "data.bin",
        None,
        progress=True,
    )
    assert "toy/data.bin" in capsys.readouterr().err
