"""Comparison of the records of PyTorch's ZIP archives with their checksums."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from bigr.checkpoints.archives import find_damage


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "a.ckpt"
    torch.save({"first": torch.arange(1000.0), "second": torch.ones(2000)}, path)
    return path


def test_an_intact_archive(archive: Path) -> None:
    assert find_damage(archive) is None


def test_one_bit_of_a_tensor(archive: Path) -> None:
    """torch.load returns the changed value without a word."""
    data = bytearray(archive.read_bytes())
    data[data.index(torch.arange(1000.0)[500:510].numpy().tobytes())] ^= 1
    archive.write_bytes(data)
    assert not torch.equal(torch.load(archive, mmap=True)["first"], torch.arange(1000.0))
    damage = find_damage(archive)
    assert damage is not None
    assert "Bad CRC-32 for file 'a/data/0'" in damage


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_file_that_was_cut_off(archive: Path, share: float) -> None:
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(share * len(whole))])
    assert find_damage(archive) == f"it is damaged or truncated ({archive.stat().st_size:,} bytes)"


def test_compressed_records_are_refused(archive: Path) -> None:
    """A few kilobytes could unpack to gigabytes, and torch.load with mmap can't read them."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("a/data.pkl", bytes(10_000_000))
    assert find_damage(archive) == (
        "it was not written by torch.save: its record a/data.pkl is compressed"
    )


def test_records_that_share_their_bytes_are_refused(archive: Path) -> None:
    """A thousand records of one file of a gigabyte would take an hour."""
    with zipfile.ZipFile(archive, "w") as overlapping:
        overlapping.writestr("a", bytes(100_000))
        first = overlapping.getinfo("a")
        overlapping.filelist += [first] * 1000
    damage = find_damage(archive)
    assert damage is not None
    assert "its records would need more than its" in damage


def test_a_damaged_end(archive: Path) -> None:
    """The locator of the directory claims that the archive continues on another disk."""
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x06\x07") + 16] ^= 8
    archive.write_bytes(data)
    assert find_damage(archive) == (
        "it is damaged (zipfiles that span multiple disks are not supported)"
    )


@pytest.mark.parametrize(("offset", "bit"), [(20, 4), (24, 4), (38, 0x10)])
def test_a_damaged_directory(archive: Path, offset: int, bit: int) -> None:
    """A size of a record, or its attribute for folders; without mmap, PyTorch returns garbage."""
    data = bytearray(archive.read_bytes())
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"a/data/0"))
    data[entry + offset] ^= bit
    archive.write_bytes(data)
    assert find_damage(archive) == "it is damaged (bad directory entry of 'a/data/0')"
