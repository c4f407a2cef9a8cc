"""Arrays with checksums, and whatever else calls itself .npz."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigr.data import array_files
from bigr.data.array_files import check_archive, npz_names, read_arrays, read_npz, write_arrays
from bigr.data.sealed_json import DamagedFileError, seal

ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "pool": np.arange(12, dtype=np.float32).reshape(4, 3),
    "half": np.ones((2, 2), np.float16),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "empty": np.empty((0, 5)),
    "scalar": np.array(7),
}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.npz"
    write_arrays(path, ARRAYS, {"start": 3})
    arrays, about = read_arrays(path)
    assert about == {"start": 3}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert np.array_equal(arrays[name], array)
    arrays["pool"][0, 0] = 5  # not read-only
    some, _ = read_arrays(path, ["half", "unknown"])
    assert list(some) == ["half"]
    with np.load(path) as file:
        assert np.array_equal(file["columns"], ARRAYS["columns"])
        assert "identity" in file.files
    assert list(path.parent.iterdir()) == [path]


def test_equal_arrays_make_equal_files(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_arrays(tmp_path / name, ARRAYS, {"start": 3})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def rewritten(path: Path, changes: dict[str, Any]) -> None:
    """The same archive, valid, with other arrays."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays = {name: value for name, value in {**arrays, **changes}.items() if value is not None}
    np.savez(path, **arrays)


CHANGES = {
    "another value": ({"pool": ARRAYS["pool"] + 1}, "pool does not match its checksum"),
    "another type": ({"pool": ARRAYS["pool"].astype(np.float64)}, "pool does not match"),
    "another shape": ({"pool": ARRAYS["pool"].reshape(3, 4)}, "pool does not match"),
    "a missing array": ({"pool": None}, "the array pool is missing"),
    "one more array": ({"more": np.zeros(2)}, "an array without a checksum"),
    "no checksums": ({"identity": None}, "has no checksums"),
    "other checksums": ({"identity": np.array("{}")}, "it has no checksum"),
    "no mapping of checksums": ({"identity": np.array(seal({"checksums": 5}).decode())}, "damaged"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_changes_are_found(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, ARRAYS, {"start": 3})
    changes, message = CHANGES[kind]
    rewritten(path, changes)
    with pytest.raises(DamagedFileError, match=rf"a\.npz .*{message}"):
        read_arrays(path)


def test_files_of_older_versions(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", identity=np.array('{"count": 2}'), mu=np.ones(2))
    arrays, about = read_arrays(tmp_path / "a.npz", needs_checksum=False)
    assert about == {"count": 2}
    assert arrays["mu"].tolist() == [1, 1]
    with pytest.raises(DamagedFileError, match="no checksum"):
        read_arrays(tmp_path / "a.npz")


def archive(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in members:
            file.writestr(name, data)
    return buffer.getvalue()


def array_bytes(array: Any, **header: Any) -> bytes:
    """An array in NumPy's format, with another header."""
    array = np.asarray(array)
    buffer = io.BytesIO()
    about = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(buffer, {**about, **header})
    return buffer.getvalue() + array.tobytes()


MALFORMED = {
    "empty": b"",
    "text": b"hello",
    "cut off": archive(("a.npy", array_bytes([1.0])))[:-30],
    "no array": archive(("a.npy", b"hello")),
    "a huge shape": archive(("a.npy", array_bytes([1.0], shape=(10**12,)))),
    "a negative shape": archive(("a.npy", array_bytes([1.0], shape=(-1,)))),
    "a shape that is too small": archive(("a.npy", array_bytes([1.0, 2.0], shape=(1,)))),
    "objects": archive(("a.npy", array_bytes([1], descr="|O"))),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_files_are_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.npz").write_bytes(MALFORMED[kind])
    with pytest.raises(DamagedFileError, match=r"a\.npz is damaged or not an \.npz file"):
        read_npz(tmp_path / "a.npz")


def test_special_files_and_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    for read in (read_npz, npz_names, check_archive, read_arrays):
        with pytest.raises(DamagedFileError, match="is a named pipe"):
            read(tmp_path / "pipe.npz")
        with pytest.raises(DamagedFileError, match=r"missing\.npz is damaged or not"):
            read(tmp_path / "missing.npz")
    data = archive(("a.npy", array_bytes(np.zeros(10**5))), compression=zipfile.ZIP_DEFLATED)
    (tmp_path / "bomb.npz").write_bytes(data)
    assert read_npz(tmp_path / "bomb.npz")["a"].shape == (10**5,)
    monkeypatch.setattr(array_files, "MAX_UNPACKED", 10**5)
    with pytest.raises(DamagedFileError, match="its content would have 800,"):
        read_npz(tmp_path / "bomb.npz")


def test_archives_are_compared_with_their_crc(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, mu=np.arange(1000.0), arr_0=np.zeros(10))
    check_archive(path)
    assert npz_names(path) == ["mu", "arr_0"]
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match=r"the checksum of mu\.npy differs"):
        check_archive(path)
    assert list(read_npz(path, ["arr_0"])) == ["arr_0"]
    with pytest.raises(DamagedFileError, match="Bad CRC-32"):
        read_npz(path)
