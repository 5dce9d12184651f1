"""Listing what can go while others write there."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from winnow.locks import locked
from winnow.plan.garbage import _downloads, remove, size

CHURN = """
import itertools, os, shutil, sys
from pathlib import Path
folder = Path(sys.argv[1])
for number in itertools.count():
    out = folder / f"out{number % 7}"
    out.mkdir()
    for file in range(20):
        (out / f".{file}").write_bytes(b"0" * 100)
        os.replace(out / f".{file}", out / f"{file}")
    shutil.rmtree(out)
    if not number:
        print("begun", flush=True)
"""


@pytest.fixture
def churned(tmp_path: Path) -> Iterator[Path]:
    """A folder in which another process makes, renames and deletes files and folders all the time."""
    folder = tmp_path / "work"
    folder.mkdir()
    command = [sys.executable, "-c", CHURN, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "begun\n"
        yield folder
        process.kill()


def test_a_folder_s_size_is_taken_while_a_job_writes_there(churned: Path) -> None:
    end = time.monotonic() + 2
    while time.monotonic() < end:
        size(churned)


@pytest.mark.parametrize(("manifest", "shards"), [("crawl.json", "shards"), ("hub.json", "set")])
def test_shards_go_when_no_plan_needs_their_manifest(tmp_path: Path, manifest: str, shards: str) -> None:
    folder = tmp_path / "data" / "some"
    (folder / shards).mkdir(parents=True)
    (folder / ".work").mkdir()
    (folder / shards / "0.tar").write_bytes(b"0" * 1000)
    (folder / manifest).write_text("{}")
    assert not list(_downloads(folder, frozenset({f"data/some/{manifest}"}), tmp_path))
    found = {item.path.name: item for item in _downloads(folder, frozenset(), tmp_path)}
    assert set(found) == {manifest, shards} and found[shards].bytes == 1000
    with locked(folder / ".work" / f"{manifest}.lock"):
        assert not found[shards].delete() and (folder / shards).is_dir()
    assert found[shards].delete() and found[manifest].delete()
    assert [path.name for path in folder.iterdir()] == [".work"]


def test_sizes_and_removals_follow_no_link(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    for folder in (outside, inside):
        folder.mkdir()
        (folder / "file").write_bytes(b"0" * 100)
    (inside / "link").symlink_to(outside)
    assert size(inside) == 100 + (inside / "link").lstat().st_size
    assert remove(inside / "link") and remove(inside) and remove(inside)
    assert (outside / "file").exists() and not inside.exists()
