"""The saved index of a tar file."""

from __future__ import annotations

import os
import tarfile
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bigr.data.files import replacing
from bigr.data.sources import tar as tar_module
from bigr.data.sources.find import find_source
from tests.image_files import (
    CLASSES,
    ODD,
    write_nested_tar,
)


def test_the_index_of_a_tar_is_made_once(
    roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = roots["tars"] / "ILSVRC2012_img_train.tar"
    first = find_source(roots["tars"], "train")
    monkeypatch.setattr(tarfile, "open", lambda *_: pytest.fail("the index was made again"))
    second = find_source(roots["tars"], "train")
    assert first.fingerprint() == second.fingerprint()
    monkeypatch.undo()
    saved = path.with_name(path.name + tar_module.ENDING)
    saved.write_bytes(b"PK broken")
    assert find_source(roots["tars"], "train").fingerprint() == first.fingerprint()
    write_nested_tar(path, {(CLASSES[0], "1.JPEG"): ODD["colour"]})  # another tar
    assert len(find_source(roots["tars"], "train")) == 1


def test_the_index_of_a_read_only_folder_goes_to_the_cache(
    roots: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def in_writable_folder(path: Path) -> AbstractContextManager[Path]:
        if path.parent == roots["tars"]:
            raise PermissionError(13, "Permission denied")
        return replacing(path)

    monkeypatch.setattr(tar_module, "replacing", in_writable_folder)
    find_source(roots["tars"], "train")
    assert len(list((tmp_path / "cache" / "bigr").iterdir())) == 1
    monkeypatch.setattr(tarfile, "open", lambda *_: pytest.fail("the index was made again"))
    find_source(roots["tars"], "train")


def test_an_index_that_is_a_named_pipe_is_replaced(roots: dict[str, Path]) -> None:
    first = find_source(roots["tars"], "train")
    path = roots["tars"] / "ILSVRC2012_img_train.tar"
    saved = path.with_name(path.name + tar_module.ENDING)
    saved.unlink()
    os.mkfifo(saved)
    assert find_source(roots["tars"], "train").fingerprint() == first.fingerprint()
    assert saved.is_file()
