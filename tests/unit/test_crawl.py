"""Crawls with the real img2dataset, against a local server that fails in the ways of the open web."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from crawl_env import crawl_python
from pair_server import Server, certificate, picture, serving, with_thumbnail
from PIL import Image

from winnow.canonical import sha256_file
from winnow.data import crawl_worker
from winnow.data.crawl import (
    Limits,
    damaged_shards,
    find_list,
    list_table,
    reason,
    run_crawl,
    tool_python,
    tool_version,
)
from winnow.data.crawl_worker import is_cut
from winnow.data.shards import index_shard
from winnow.errors import UserError
from winnow.plan.catalogue import Crawl, DatasetEntry

QUICK = Limits(silent_s=2, seconds=3, bytes=1 << 20, retries=0, look_s=0.1)


@pytest.fixture(scope="session")
def python() -> Path:
    return crawl_python()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


def entry_of(**crawl: Any) -> DatasetEntry:
    fields = {"list": "list.tsv", "columns": ["caption", "url"], "image_size": 24, "shard_size": 10}
    return DatasetEntry.model_validate(
        {
            "name": "toy",
            "title": "Toy",
            "kind": "pairs",
            "licence": "MIT",
            "homepage": "https://example.org",
            "reader": "webdataset",
            "splits": {"train": 4},
            "shape": [24, 24, 3],
            "crawl": fields | crawl,
        }
    )


def write_list(folder: Path, pairs: list[tuple[str, str]]) -> Path:
    path = folder / "list.tsv"
    path.write_text("".join(f"{caption}\t{url}\n" for caption, url in pairs), encoding="utf-8")
    return path


def good_pairs(server: Server, n: int) -> list[tuple[str, str]]:
    return [(f"picture {i}", server.url(f"good/{i}")) for i in range(n)]


EXPECTED = {
    "good": "",
    "png": "",
    "mislabelled": "",
    "thumb": "",
    "moved": "",
    "page": "not an image",
    "cut": "truncated",
    "cutthumb": "truncated",
    "cutpng": "truncated",
    "broken": "truncated",
    "empty": "empty answer",
    "missing": "status 404",
    "busy": "status 503",
    "circle": "status 302",
    "local": "status 302",
    "noai": "disallowed by the site",
    "silent": "timed out",
    "drip": "timed out",
    "huge": "too large",
    "headdrip": "timed out",
    "hops": "timed out",
    "movedrip": "",
    "movehuge": "",
}


def test_every_failure_is_counted_by_its_reason(server: Server, python: Path, tmp_path: Path) -> None:
    pairs = [(f"a {kind}", server.url(f"{kind}/{i}")) for i, kind in enumerate(EXPECTED)]
    pairs += [
        ("again", server.url("good/0")),
        ("a file", "file:///etc/hostname"),
        ("nobody listens", "http://127.0.0.1:9/x.jpg"),
        ('an open "quote', server.url("good/50")),
        ("   ", server.url("good/51")),
        ("no address", ""),
    ]
    listed = write_list(tmp_path, pairs)
    with listed.open("ab") as file:
        file.write(b"one field\nnot \xff text\thttp://127.0.0.1/\n")
    manifest = run_crawl(entry_of(), listed, tmp_path / "toy", python, 1, 16, QUICK)
    assert not server.taken
    expected = [name for name in EXPECTED.values() if name]
    expected += ["not a usable address", "no connection", "not a usable address"]
    assert manifest["failures"] == {name: expected.count(name) for name in sorted(set(expected))}
    assert manifest["malformed_lines"] == 2
    assert manifest["listed"] == len(pairs)
    assert manifest["fetched"] == len(pairs) - len(expected) == 10
    assert manifest["problems"] == {"empty caption": 1}
    assert manifest["usable"] == 9
    assert manifest["duplicate_images"] == 1
    assert manifest["settings"]["sha256"] == sha256_file(listed)
    assert json.loads((tmp_path / "toy" / "crawl.json").read_text()) == manifest
    check_shards(tmp_path / "toy", manifest, {(url, caption.strip()) for caption, url in pairs})


@pytest.fixture(params=["http", "https"])
def either(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """A server that speaks http, or https with a certificate that this process trusts."""
    secured = None
    if request.param == "https":
        if shutil.which("openssl") is None:
            pytest.skip("no openssl to make a certificate with")
        secured = certificate(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    monkeypatch.setattr(crawl_worker, "MAX_SECONDS", 0.5)
    with serving(secured) as found:
        yield found


@pytest.mark.parametrize("kind", ["headdrip", "drip", "hops"])
def test_no_address_outlasts_its_time(either: Server, kind: str) -> None:
    with pytest.raises((OSError, ValueError)) as caught:
        crawl_worker.opener().open(either.url(f"{kind}/1"), timeout=30)
    assert reason(str(caught.value)) == "timed out"
    assert not either.taken


@pytest.mark.parametrize("kind", ["moved", "movedrip", "movehuge"])
def test_the_body_of_a_redirect_is_not_read(
    either: Server, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crawl_worker, "MAX_SECONDS", 60.0)
    with crawl_worker.opener().open(either.url(f"{kind}/7"), timeout=30) as answer:
        assert answer.read() == picture(7)
    assert not either.taken


def test_a_thread_has_the_whole_time_for_its_next_address(
    either: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with pytest.raises(OSError, match=r"timed out|took longer"):
            crawl_worker.opener().open(either.url("silent/1"), timeout=30)
    monkeypatch.setattr(crawl_worker, "MAX_SECONDS", 60.0)
    assert crawl_worker.opener().open(either.url("good/1"), timeout=30).read() == picture(1)


def check_shards(folder: Path, manifest: dict[str, Any], pairs: set[tuple[str, str]]) -> None:
    """Shards have the stated digests, and an index leads to each image, caption and address."""
    for record in manifest["shards"]:
        tar = folder / "shards" / record["shard"]
        assert sha256_file(tar) == record["sha256"]
        index = pd.read_parquet(tar.with_suffix(".index.parquet"))
        assert len(index) == record["fetched"]
        content = tar.read_bytes()
        for row in index.itertuples():
            encoded = content[row.offset : row.offset + row.length]
            assert hashlib.sha256(encoded).hexdigest() == row.sha256
            with Image.open(io.BytesIO(encoded)) as image:
                assert image.size == (row.width, row.height) == (32, 24)  # shorter side to 24
            assert (row.original_width, row.original_height) == (40, 30)
            assert (row.url, row.caption) in pairs


def test_a_killed_crawl_fetches_only_what_is_missing(server: Server, python: Path, tmp_path: Path) -> None:
    """Kill -9 of the crawl alone: its downloads end too, and the next start asks for no finished shard."""
    server.pause_s = 0.15
    listed, folder = write_list(tmp_path, good_pairs(server, 60)), tmp_path / "toy"
    process = start(listed, folder, python)
    shards = folder / "shards"
    wait_for(lambda: len(list(shards.glob("*.record.json"))) >= 2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1.0)
    done = {path.name.split(".")[0] for path in shards.glob("*.record.json")}
    finished = {
        path.name.removesuffix("_stats.json") for path in folder.glob(".work/crawl/*/*_stats.json")
    } | done
    assert 2 <= len(done) < 6
    asked = server.asked.copy()
    time.sleep(1.0)
    assert server.asked == asked, "an orphan goes on downloading"
    stamps = {name: (shards / f"{name}.tar").stat().st_mtime_ns for name in done}
    manifest = run_crawl(entry_of(), listed, folder, python, 1, 2, QUICK)
    again = {int(path.rsplit("/", 1)[1]) for path, n in (server.asked - asked).items() if n}
    assert {f"{i // 10:05d}" for i in again} == {f"{i:05d}" for i in range(6)} - finished
    assert {name: (shards / f"{name}.tar").stat().st_mtime_ns for name in done} == stamps
    assert (manifest["usable"], manifest["failures"]) == (60, {})
    assert not list((folder / ".work").glob("crawl*/*"))


def start(listed: Path, folder: Path, python: Path) -> subprocess.Popen[bytes]:
    """Start a crawl in a process of its own."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from test_crawl import QUICK, entry_of, run_crawl;"
        "run_crawl(entry_of(), *map(Path, sys.argv[2:]), 1, 2, QUICK)"
    )
    paths = [str(Path(__file__).parent), str(listed), str(folder), str(python)]
    return subprocess.Popen([sys.executable, "-c", code, *paths])


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    latest = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < latest
        time.sleep(0.05)


def test_a_finished_crawl_asks_for_nothing(server: Server, python: Path, tmp_path: Path) -> None:
    listed, folder = write_list(tmp_path, good_pairs(server, 12)), tmp_path / "toy"
    first = run_crawl(entry_of(), listed, folder, python, 1, 4, QUICK)
    asked = server.asked.copy()
    assert run_crawl(entry_of(), listed, folder, python, 1, 4, QUICK) == first
    assert server.asked == asked
    with pytest.raises(UserError, match="another list or with other settings"):
        run_crawl(entry_of(shard_size=5), listed, folder, python, 1, 4, QUICK)
    assert damaged_shards(folder / "crawl.json") == []
    (folder / "shards" / "00001.tar").write_bytes(b"short")
    assert damaged_shards(folder / "crawl.json") == [folder / "shards" / "00001.record.json"]
    with pytest.raises(UserError, match=r"00001\.tar: missing or not of \d+ bytes"):
        run_crawl(entry_of(), listed, folder, python, 1, 4, QUICK)


ASKED = "if '-I' in sys.argv: sys.exit(print('0'))"


def fake_tool(folder: Path, body: str, asked: str = ASKED) -> Path:
    """Return a program that takes the place of the environment's Python; asked for a version, it says 0."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\nimport json, sys, time, pathlib\n{asked}\n{body}")
    path.chmod(0o755)
    return path


DAMAGE = """
given = json.loads(sys.argv[2])
out = pathlib.Path(given["output_folder"])
(out / "00000.tar").write_bytes(b"x" * 700)
(out / "00000_stats.json").write_text(json.dumps({"count": 1, "successes": 1, "status_dict": {"success": 1}}))
"""


def test_a_tool_that_fails_or_stalls_ends_in_one_message(tmp_path: Path) -> None:
    listed = write_list(tmp_path, [("a", "http://127.0.0.1:9/a")])
    said: list[str] = []
    with pytest.raises(UserError, match="1 shards did not come whole in 3 rounds, the first is 00000"):
        run_crawl(
            entry_of(), listed, tmp_path / "toy", fake_tool(tmp_path, DAMAGE), limits=QUICK, log=said.append
        )
    assert any("not a whole tar file" in line for line in said)
    stalled = Limits(stalled_s=0.3, look_s=0.1)
    begun = time.monotonic()
    with pytest.raises(UserError, match="did not come whole"):
        run_crawl(entry_of(), listed, tmp_path / "toy", fake_tool(tmp_path, "time.sleep(60)"), limits=stalled)
    assert time.monotonic() - begun < 10


def test_the_list_keeps_its_lines_and_quotes(tmp_path: Path) -> None:
    listed = tmp_path / "list.tsv"
    listed.write_bytes('url\tcaption\nhttp://a\tan "open quote\nbad\nhttp://b\tü\r\n'.encode())
    crawl = Crawl(list="list.tsv", columns=("url", "caption"), header=True)
    path, rows, malformed = list_table(crawl, listed, tmp_path / "list.parquet")
    assert (rows, malformed) == (2, 1)
    assert pd.read_parquet(path).to_dict("list") == {
        "url": ["http://a", "http://b"],
        "caption": ['an "open quote', "ü"],
        "line": [1, 3],
    }
    listed.write_text("only one field\n")
    with pytest.raises(UserError, match="no line has the 2 fields url, caption"):
        list_table(crawl, listed, tmp_path / "other.parquet")


def test_the_list_comes_from_the_mirror_with_a_stated_checksum(tmp_path: Path) -> None:
    entry, folder = entry_of(), tmp_path / "mirror" / "toy"
    with pytest.raises(UserError, match="no mirror is set"):
        find_list(entry, tmp_path, None)
    with pytest.raises(UserError, match=r"list\.tsv is not there"):
        find_list(entry, tmp_path, tmp_path / "mirror")
    folder.mkdir(parents=True)
    listed = write_list(folder, [("a", "b")])
    with pytest.raises(UserError, match=r"sha256sum list\.tsv > list\.tsv\.sha256"):
        find_list(entry, tmp_path, tmp_path / "mirror")
    stated = folder / "list.tsv.sha256"
    stated.write_text(f"{'0' * 64}  list.tsv\n")
    with pytest.raises(UserError, match="is not the one in"):
        find_list(entry, tmp_path, tmp_path / "mirror")
    stated.write_text(f"{sha256_file(listed)}  list.tsv\n")
    assert find_list(entry, tmp_path, tmp_path / "mirror") == listed


def test_no_environment_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WINNOW_CRAWL_ENV", raising=False)
    with pytest.raises(UserError, match="make crawl-env"):
        tool_python(tmp_path)
    monkeypatch.setenv("WINNOW_CRAWL_ENV", str(tmp_path / "else"))
    with pytest.raises(UserError, match="else: no environment"):
        tool_python(tmp_path)
    with pytest.raises(UserError, match="has no img2dataset"):
        tool_version(fake_tool(tmp_path, "", "sys.exit(1)"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_cut_picture_is_known_wherever_it_is_cut(kind: str) -> None:
    whole = picture(1, kind=kind)
    assert not is_cut(whole)
    assert not is_cut(whole + b"trailing bytes")
    assert all(is_cut(whole[:end]) for end in range(8, len(whole) - 8))


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture() -> None:
    whole = with_thumbnail(picture(1))
    assert not is_cut(whole)
    assert is_cut(whole[:-50])
    assert not is_cut(b"GIF89a")


def test_reasons_are_few() -> None:
    assert reason("HTTP Error 410: Gone") == "status 410"
    assert reason("<urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed>") == (
        "no secure connection"
    )
    assert reason("something new") == "other"


def write_shard(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """Write a tar file with these members in this order."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_the_index_says_what_is_wrong_with_each_sample(tmp_path: Path) -> None:
    facts = json.dumps({"url": "http://a", "line": 7}).encode()
    path = write_shard(
        tmp_path / "a.tar",
        [
            ("0.jpg", picture(0)), ("0.txt", b" good "), ("0.json", facts),
            ("1.txt", b"text only"), ("1.json", facts),
            ("2.jpg", picture(2)), ("2.json", facts),
            ("3.jpg", picture(3)[:-300]), ("3.txt", b"cut"), ("3.json", facts),
            ("4.jpg", picture(4)), ("4.txt", b"  "), ("4.json", facts),
            ("5.jpg", picture(5)), ("5.txt", b"\xff\xfe"), ("5.json", facts),
            ("6.jpg", picture(6)), ("6.txt", b"no facts"), ("6.json", b"{"),
        ],
    )  # fmt: skip
    index = index_shard(path, facts_needed=True).set_index("key")
    assert index["problem"].to_dict() == {
        "0": "",
        "1": "text without image",
        "2": "image without text",
        "3": "undecodable image",
        "4": "empty caption",
        "5": "caption is not UTF-8",
        "6": "no metadata",
    }
    assert index.loc["0", ["caption", "url", "line", "width", "height"]].tolist() == [
        "good",
        "http://a",
        7,
        40,
        30,
    ]
    assert index_shard(path).set_index("key").loc["6", "problem"] == ""
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="not a whole tar file"):
        index_shard(path)
