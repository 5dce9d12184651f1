"""Artefacts appear complete or not at all, are checked when read, and are built once."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from winnow import store
from winnow.errors import UserError
from winnow.store import (
    MANIFEST,
    Artefact,
    building,
    damage,
    discard,
    load_array,
    point,
    read_json,
    save_array,
    stored_name,
    verified,
    work_folder,
    write_atomic,
    write_json,
)

IDENTITY = {"spec": "{}", "code": "abc"}


def build(final: Path, text: str = "content", identity: dict[str, str] = IDENTITY) -> bool:
    """Make an artefact of one file; False where it was there already."""
    with building(final, identity) as artefact:
        if artefact is not None:
            write_atomic(artefact.out / "file.txt", text.encode())
    return artefact is not None


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def final(tmp_path: Path) -> Path:
    return tmp_path / "train" / "thing-00000000"


def test_the_final_name_appears_with_everything_in_it(final: Path) -> None:
    with building(final, IDENTITY) as artefact:
        assert artefact is not None
        write_json(artefact.folder(3) / "metrics.json", {"a": 1})
        assert not final.exists()
    assert files(final) == {"s3/metrics.json", MANIFEST}
    assert read_json(final / MANIFEST)["identity"] == IDENTITY
    assert list(read_json(final / MANIFEST)["files"]) == ["s3/metrics.json"]
    assert read_json(verified(final, "s3/metrics.json")) == {"a": 1}


def test_an_error_leaves_nothing_but_checkpoints(final: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken"), building(final, IDENTITY) as artefact:
        assert artefact is not None
        write_atomic(artefact.out / "half.bin", b"0" * 1000)
        write_atomic(artefact.checkpoints / "s0.safetensors", b"state")
        raise RuntimeError("broken")
    assert not final.exists()
    left = {Path(name).name for name in files(tmp_path)}
    assert left == {"owner", "s0.safetensors", "thing-00000000.lock"}


def test_checkpoints_are_kept_for_the_same_spec_and_code_only(final: Path) -> None:
    def interrupted(identity: dict[str, str]) -> bool:
        with pytest.raises(RuntimeError), building(final, identity) as artefact:
            assert artefact is not None
            found = (artefact.checkpoints / "s0").exists()
            write_atomic(artefact.checkpoints / "s0", b"state")
            raise RuntimeError
        return found

    assert not interrupted(IDENTITY)
    assert interrupted(IDENTITY)
    assert not interrupted(IDENTITY | {"code": "other code"})
    assert interrupted(IDENTITY | {"code": "other code"})
    assert not interrupted(IDENTITY | {"spec": "other spec", "code": "other code"})


def test_success_removes_the_checkpoints(final: Path, tmp_path: Path) -> None:
    with building(final, IDENTITY) as artefact:
        assert artefact is not None
        write_atomic(artefact.checkpoints / "s0", b"state")
    assert {Path(name).name for name in files(tmp_path)} == {MANIFEST, "thing-00000000.lock"}


def test_what_a_killed_process_left_behind_does_not_come_through(final: Path) -> None:
    out = final.parent.parent / ".work" / "train" / final.name / "out"
    out.mkdir(parents=True)
    (out / "half.bin").write_bytes(b"half")
    assert build(final)
    assert files(final) == {"file.txt", MANIFEST}


def test_the_same_artefact_is_reused_and_another_one_replaced(final: Path) -> None:
    assert build(final)
    assert not build(final, "never written")
    assert (final / "file.txt").read_text() == "content"
    assert not work_folder(final).exists()
    assert build(final, "new", IDENTITY | {"code": "new"})
    assert (final / "file.txt").read_text() == "new"


@pytest.mark.parametrize("damage", ["byte", "missing", "no manifest", "manifest"])
def test_a_damaged_artefact_is_built_again_and_not_reused(final: Path, damage: str) -> None:
    build(final)
    match damage:
        case "byte":
            (final / "file.txt").write_text("cOntent")
        case "missing":
            (final / "file.txt").unlink()
        case "no manifest":
            (final / MANIFEST).unlink()
        case "manifest":
            (final / MANIFEST).write_text("{}")
    assert build(final)
    assert verified(final, "file.txt").read_text() == "content"


def test_replacing_deletes_nothing_under_the_final_name(final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the two renames leaves no folder; a kill while deleting would leave half a one."""
    build(final)
    deleted: list[Path] = []
    real = store.shutil.rmtree
    monkeypatch.setattr(
        store.shutil, "rmtree", lambda path, **more: (deleted.append(Path(path)), real(path, **more))
    )
    build(final, "new", IDENTITY | {"code": "new"})
    assert deleted
    assert final not in deleted


def test_two_builders_of_one_artefact_compute_once(final: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside, go_on = threading.Event(), threading.Event()
    built: list[str] = []

    def first() -> None:
        with building(final, IDENTITY) as artefact:
            assert artefact is not None
            built.append("first")
            inside.set()
            assert go_on.wait(30)
            write_atomic(artefact.out / "file.txt", b"content")

    def second() -> None:
        if build(final):
            built.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    while "waiting for it" not in capsys.readouterr().err:
        threads[1].join(0.01)
        assert threads[1].is_alive()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert built == ["first"]
    assert verified(final, "file.txt").read_text() == "content"


def test_a_waiting_builder_takes_over_when_the_first_one_fails(final: Path) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def first() -> None:
        with pytest.raises(RuntimeError), building(final, IDENTITY):
            inside.set()
            assert go_on.wait(30)
            raise RuntimeError

    results: list[bool] = []
    threads = [threading.Thread(target=first), threading.Thread(target=lambda: results.append(build(final)))]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert results == [True]
    assert verified(final, "file.txt").read_text() == "content"


def test_artefacts_of_other_names_do_not_wait(tmp_path: Path) -> None:
    with building(tmp_path / "train" / "a-00000000", IDENTITY):
        assert build(tmp_path / "train" / "b-00000000")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
        (OSError("1437 requested and 1008 written"), "disk is full"),
        (OSError(errno.EDQUOT, "Quota exceeded"), "quota"),
        (OSError(errno.EROFS, "Read-only file system"), "read-only"),
        (PermissionError(errno.EACCES, "Permission denied"), "no permission"),
    ],
)
def test_the_disk_s_errors_are_told_with_their_fix(final: Path, error: OSError, said: str) -> None:
    with (
        pytest.raises(UserError, match=rf"{final}.*{said}.*`store` in config.yaml"),
        building(final, IDENTITY),
    ):
        raise error
    assert not final.exists()


def test_other_errors_keep_their_traceback(final: Path) -> None:
    with pytest.raises(FileNotFoundError), building(final, IDENTITY):
        raise FileNotFoundError(errno.ENOENT, "No such file", "x")


@pytest.mark.parametrize("damage", ["byte", "shorter", "longer", "missing", "unlisted"])
def test_verified_names_the_file_and_the_fix(final: Path, damage: str) -> None:
    build(final, "0123456789")
    path = final / "file.txt"
    match damage:
        case "byte":
            path.write_text("0123456780")
        case "shorter":
            path.write_text("012345678")
        case "longer":
            path.write_text("01234567890")
        case "missing":
            path.unlink()
        case "unlisted":
            path = final / "other.txt"
            path.write_text("")
    with pytest.raises(UserError) as caught:
        verified(final, path.name)
    assert str(caught.value).startswith(f"{path}: ")
    assert f"Delete {final} and run again" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "", "{", "[1, 2"])
def test_a_manifest_that_cannot_be_read_is_told(final: Path, content: str | None) -> None:
    build(final)
    (final / MANIFEST).unlink()
    if content is not None:
        (final / MANIFEST).write_text(content)
    with pytest.raises(UserError, match=str(final / MANIFEST)):
        verified(final, "file.txt")


def test_write_atomic_keeps_the_old_file_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.json"
    write_atomic(path, b"old")

    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, "broken")

    for place in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, place, refuse)
            with pytest.raises(OSError, match="broken"):
                write_atomic(path, b"new")
        assert path.read_bytes() == b"old"
        assert files(tmp_path) == {"file.json"}
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


def test_arrays_come_back_equal_and_memory_mapped(final: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    with building(final, IDENTITY) as artefact:
        assert isinstance(artefact, Artefact)
        save_array(artefact.out / "signal.npy", values)
    found = load_array(final, "signal.npy")
    assert isinstance(found, np.memmap)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)


def test_pickles_are_neither_written_nor_loaded(final: Path, tmp_path: Path) -> None:
    objects = np.array([{"a": 1}, None], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle"):
        save_array(tmp_path / "objects.npy", objects)
    buffer = io.BytesIO()
    np.save(buffer, objects, allow_pickle=True)
    with building(final, IDENTITY) as artefact:
        assert artefact is not None
        write_atomic(artefact.out / "objects.npy", buffer.getvalue())
    with pytest.raises(UserError, match=r"objects\.npy: damaged"):
        load_array(final, "objects.npy")


def test_costs_add_up_per_repetition(final: Path) -> None:
    with building(final, IDENTITY) as artefact:
        assert artefact is not None
        with artefact.timed(1) as cost:
            cost.wall_s += 100
        with artefact.timed(1):
            pass
        with pytest.raises(RuntimeError), artefact.timed(2):
            raise RuntimeError
        assert set(artefact.costs) == {"1", "2"}
        assert artefact.costs["1"].wall_s >= 100
        assert 0 <= artefact.costs["2"].wall_s < artefact.costs["1"].wall_s


def test_json_is_stable(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1, 2]})
    write_json(tmp_path / "b.json", {"a": [1, 2], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, 2], "b": 1}


# -- a store that several use -------------------------------------------------------------------


def test_the_name_in_a_store_depends_on_spec_code_and_inputs() -> None:
    names = {
        stored_name("x-1", spec, code, inputs)
        for spec in ("{}", "{1}")
        for code in ("a", "b")
        for inputs in ({"data": "d-1"}, {"data": "d-2"}, {"subset": "d-1"})
    }
    assert len(names) == 12
    assert all(re.fullmatch(r"x-1-[0-9a-f]{16}", name) for name in names)


def test_what_is_built_is_not_discarded(final: Path) -> None:
    build(final)
    with building(final, IDENTITY | {"code": "new"}) as artefact:
        assert artefact is not None
        assert not discard(final)
        assert final.is_dir() and artefact.out.is_dir()
    assert discard(final)
    assert list((final.parent.parent).rglob("*thing*")) == []


DISCARD = """
import sys
from pathlib import Path
from winnow.store import damage, discard
final = Path(sys.argv[1])
print(damage(final), flush=True)
sys.stdin.readline()
print(discard(final, lambda: damage(final) is not None), flush=True)
"""


def test_what_was_made_anew_meanwhile_is_not_discarded(final: Path) -> None:
    """A check of a large store takes hours between finding the damage and deleting what has it."""
    build(final)
    (final / "file.txt").write_text("cOntent")
    command = [sys.executable, "-c", DISCARD, str(final)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as checking:
        assert checking.stdin and checking.stdout
        assert "damaged" in checking.stdout.readline()
        assert build(final)
        checking.stdin.write("go on\n")
        checking.stdin.flush()
        assert checking.stdout.readline() == "False\n"
    assert damage(final) is None
    (final / "file.txt").write_text("cOntent")
    assert discard(final, lambda: damage(final) is not None)
    assert not final.exists()


def test_discarding_a_link_keeps_what_it_points_to(final: Path, tmp_path: Path) -> None:
    build(final)
    link = tmp_path / "train" / "link-00000000"
    point(link, final)
    assert discard(link)
    assert not link.is_symlink()
    assert damage(final) is None


@pytest.mark.parametrize("how", ["byte", "shorter", "missing", "no manifest", "cut manifest", "odd manifest"])
def test_damage_is_named(final: Path, how: str) -> None:
    build(final)
    assert damage(final) is None
    match how:
        case "byte":
            (final / "file.txt").write_text("cOntent")
        case "shorter":
            (final / "file.txt").write_text("conten")
        case "missing":
            (final / "file.txt").unlink()
        case "no manifest":
            (final / MANIFEST).unlink()
        case "cut manifest":
            (final / MANIFEST).write_text((final / MANIFEST).read_text()[:40])
        case "odd manifest":
            (final / MANIFEST).write_text("[]")
    found = damage(final)
    assert found is not None
    assert str(final) in found


def test_of_a_link_the_message_names_what_has_to_go(final: Path, tmp_path: Path) -> None:
    build(final)
    (final / "file.txt").unlink()
    link = tmp_path / "link"
    point(link, final)
    with pytest.raises(UserError, match=rf"Delete {final} and run again"):
        verified(link, "file.txt")
