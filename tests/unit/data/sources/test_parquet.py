"""Parquet files: groups of rows, missing library."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bigr.data.sources.find import find_source


def test_blocks_of_parquet(roots: dict[str, Path]) -> None:
    source = find_source(roots["parquet"], "train")
    assert len(source) == 18
    assert source.blocks is not None
    assert source.blocks.tolist() == [0, 4, 8, 9, 13, 17]
    assert source.name(10) == "train-00001-of-00002.parquet:1"
    assert find_source(roots["tars"], "train").blocks is None


def test_missing_pyarrow(roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=r"pip install 'bigr-lightning\[parquet\]'"):
        find_source(roots["parquet"], "train")


def test_blocks_are_read_once(roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading in the order of the rows opens the file once per group of rows."""
    import pyarrow.parquet as pq

    source = find_source(roots["parquet"], "train")
    opened = []
    real = pq.ParquetFile
    monkeypatch.setattr(pq, "ParquetFile", lambda path: opened.append(path) or real(path))
    for index in range(len(source)):
        source.read(index)
    assert len(opened) == 6


def test_a_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train-0.parquet")
    with pytest.raises(ValueError, match=r"train-0\.parquet is a named pipe"):
        find_source(tmp_path, "train")
