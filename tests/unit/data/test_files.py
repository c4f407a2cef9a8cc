"""Files that are replaced atomically."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from bigr.data.files import SpecialFileError, check_regular, replacing, sha256, write_atomically


def test_old_content_stays_visible_until_the_end(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.parent == target.parent
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_an_exception_leaves_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    def interrupted() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_data_is_flushed_before_the_file_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "folder" / "file.bin"
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda _: flushed.append(target.exists()))
    write_atomically(target, b"content")
    assert flushed == [False]
    assert target.read_bytes() == b"content"


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    """Also where the writer creates the file anew with permissions for its owner only."""
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "file") as temporary:
            temporary.unlink()
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_sha256_over_several_blocks(tmp_path: Path) -> None:
    data = bytes(range(256)) * 40_000  # 10 MB
    (tmp_path / "file").write_bytes(data)
    assert sha256(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_only_regular_files_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert check_regular(tmp_path / "link") == tmp_path / "link"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link to a pipe").symlink_to(tmp_path / "pipe")
    for name, kind in {
        "pipe": "a named pipe",
        "link to a pipe": "a named pipe",
        ".": "a folder",
        "/dev/zero": "a device",
    }.items():
        with pytest.raises(SpecialFileError, match=f"is {kind}, but a regular file is needed"):
            check_regular(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        check_regular(tmp_path / "missing")
