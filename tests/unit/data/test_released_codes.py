"""Files of the released trainer, against plain indexing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from bigr.data.codes_format import StoreError
from bigr.data.codes_store import CodesStore
from bigr.data.released_codes import ReleasedCodes, write_released
from tests.codes_stores import BROKEN, bits


def test_released_files(store: Path, tmp_path: Path) -> None:
    """Byte per bit, plane first, against plain indexing."""
    write_released(CodesStore(store), tmp_path / "released")
    kept = np.array([i for i in range(16) if i not in BROKEN])
    planes = np.fromfile(tmp_path / "released" / "train_ids.bin", np.uint8)
    planes = planes.reshape(6, 14, 6, 4, 4)  # entry, image, K, h, w
    for entry, image, plane, row, column in np.ndindex(planes.shape):
        expected = bits("train")[kept[image], entry, row * 4 + column, plane]
        assert planes[entry, image, plane, row, column] == expected
    codes = ReleasedCodes(tmp_path / "released", "train", 6, 4)
    assert len(codes) == 84
    assert codes.labels.tolist() == (kept % 5).tolist() * 6
    assert np.array_equal(codes.take(np.array([83, 0])), planes.reshape(84, -1)[[83, 0]])
    with pytest.raises(StoreError, match="already exists"):
        write_released(CodesStore(store), tmp_path / "released")
    with pytest.raises(StoreError, match="84 labels with 8 bits on 4x4 tokens need 10752"):
        ReleasedCodes(tmp_path / "released", "train", 8, 4)
    shutil.rmtree(tmp_path / "released")
    with pytest.raises(StoreError, match=r"val_ids.bin is missing"):
        ReleasedCodes(tmp_path / "released", "val", 6, 4)


def test_bytes_that_are_no_bits(store: Path, tmp_path: Path) -> None:
    (ids, _, *_) = write_released(CodesStore(store), tmp_path / "released")
    data = bytearray(ids.read_bytes())
    data[96 * 3 + 5] ^= 4
    ids.write_bytes(data)
    codes = ReleasedCodes(tmp_path / "released", "train", 6, 4)
    assert codes.take(np.array([0, 1, 2, 4])).max() == 1
    with pytest.raises(StoreError, match=r"train_ids\.bin is damaged \(it has bytes above 1\)"):
        codes.take(np.array([3]))


def test_a_damaged_store_is_not_converted(store: Path, tmp_path: Path) -> None:
    path = store / "val-00000.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"val-00000\.safetensors is damaged"):
        write_released(CodesStore(store), tmp_path / "released")
    assert not list((tmp_path / "released").iterdir())
