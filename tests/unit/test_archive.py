"""Archives: members are streamed, and whatever could do harm is refused."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from winnow.data import archive
from winnow.errors import UserError

CONTENT = {
    "set/a.bin": b"alpha" * 100,
    "set/b.bin": b"beta",
    "set/labels.txt": b"1\n2\n",
}


def make_tar(path: Path, members: dict[str, bytes], mode: str = "w:gz") -> Path:
    """Write a tar archive with regular members."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    """Write a zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return path


@pytest.fixture(params=["tar.gz", "tar.xz", "tar", "zip"])
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the same content in each format."""
    path = tmp_path / f"set.{request.param}"
    if request.param == "zip":
        return make_zip(path, CONTENT)
    return make_tar(path, CONTENT, {"tar.gz": "w:gz", "tar.xz": "w:xz", "tar": "w"}[request.param])


def test_inspect_gives_sizes_and_small_members(packed: Path) -> None:
    sizes, contents = archive.inspect(packed, {"set/labels.txt"})
    assert sizes == {name: len(content) for name, content in CONTENT.items()}
    assert contents == {"set/labels.txt": b"1\n2\n"}


def test_stream_gives_wanted_members_in_pieces(packed: Path) -> None:
    got = {name: read(5) + read(-1) for name, read in archive.stream(packed, {"set/b.bin", "set/a.bin"})}
    assert got == {name: CONTENT[name] for name in ("set/a.bin", "set/b.bin")}


def test_a_missing_member_is_named(packed: Path) -> None:
    with pytest.raises(UserError, match=r"no member 'set/c\.bin'.*set/a\.bin"):
        list(archive.stream(packed, {"set/c.bin"}))


def test_a_truncated_archive_is_a_readable_error(packed: Path) -> None:
    content = packed.read_bytes()
    packed.write_bytes(content[: len(content) // 10 if packed.suffix == ".tar" else len(content) // 2])
    with pytest.raises(UserError, match=r"set\..*(damaged|no member)"):
        for _, read in archive.stream(packed, set(CONTENT)):
            read(-1)


def test_a_file_of_another_kind_is_a_readable_error(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match="damaged or not in the expected format"):
        archive.inspect(path, set())


HOSTILE = [
    "../out.bin",
    "/etc/out.bin",
    "set/../../out.bin",
    "..\\out.bin",
    "C:/out.bin",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    for path in (
        make_tar(tmp_path / "x.tar.gz", {name: b"x"}),
        make_zip(tmp_path / "x.zip", {name: b"x"}),
    ):
        with pytest.raises(UserError, match="points outside"):
            archive.inspect(path, set())


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("set/a.bin")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(UserError, match="link, a device"):
        archive.inspect(path, set())


def test_links_in_zip_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as target:
        info = zipfile.ZipInfo("set/a.bin")
        info.external_attr = 0o120777 << 16
        target.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="link or another special file"):
        archive.inspect(path, set())


def test_a_member_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for content in (b"one", b"two"):
            info = tarfile.TarInfo("set/a.bin")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(UserError, match="twice"):
        archive.inspect(path, set())


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "ALWAYS_ALLOWED_BYTES", 1 << 16)
    zeros = {"set/zeros.bin": bytes(8 << 20)}
    for path in (
        make_tar(tmp_path / "x.tar.gz", zeros),
        make_zip(tmp_path / "x.zip", zeros),
    ):
        assert path.stat().st_size * archive.MAX_RATIO < 8 << 20
        with pytest.raises(UserError, match="expands to more than"):
            archive.inspect(path, set())
