"""Datasets of the library ``datasets`` that were saved on disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bigr.data.sources.arrow import ArrowSource
from tests.image_files import CLASSES, training_images, write_arrow


def test_rows_keep_their_order_over_several_files(tmp_path: Path) -> None:
    images = training_images()
    write_arrow(tmp_path, images, shards=4)
    source = ArrowSource(tmp_path)
    assert [source.read(index) for index in range(len(source))] == [
        images[key] for key in sorted(images)
    ]
    assert source.classes == list(CLASSES)
    assert source.name(5) == "data-00001-of-00004.arrow:1"


def test_files_are_mapped_and_not_copied(tmp_path: Path) -> None:
    """What is not read costs no memory: the buffers lie in the file."""
    import pyarrow as pa

    write_arrow(tmp_path, training_images())
    before = pa.total_allocated_bytes()
    source = ArrowSource(tmp_path)
    source.read(0)
    assert pa.total_allocated_bytes() - before < 10_000


def _state(folder: Path) -> None:
    (folder / "state.json").write_text("[]")


def _no_files(folder: Path) -> None:
    (folder / "state.json").write_text('{"_data_files": []}')


def _cut(folder: Path) -> None:
    os.truncate(folder / "data-00000-of-00002.arrow", 900)


def _pipe(folder: Path) -> None:
    (folder / "data-00000-of-00002.arrow").unlink()
    os.mkfifo(folder / "data-00000-of-00002.arrow")


def _missing(folder: Path) -> None:
    (folder / "data-00001-of-00002.arrow").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_state, r"state\.json is damaged: save the dataset again"),
        (_no_files, "contains an empty dataset"),
        (_cut, "can't be read as an Arrow file"),
        (_pipe, "is a named pipe"),
        (_missing, "can't be read as an Arrow file"),
    ],
)
def test_damaged_datasets_are_explained(tmp_path: Path, damage: object, message: str) -> None:
    write_arrow(tmp_path, training_images())
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        ArrowSource(tmp_path)


def test_missing_pyarrow_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_arrow(tmp_path, training_images())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install 'bigr-lightning\[parquet\]'"):
        ArrowSource(tmp_path)
