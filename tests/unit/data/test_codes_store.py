"""Packed codes: bits, shards, manifests, the released trainer's files."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bigr.data import codes_store
from bigr.data.broken import BrokenImage
from bigr.data.codes_store import CodesStore, StoreError, StoreSettings
from bigr.data.codes_writer import StoreWriter
from bigr.data.packing import pack_codes, packed_size, unpack_codes
from bigr.data.released_codes import ReleasedCodes, write_released

SETTINGS = StoreSettings(
    tokenizer_sha256="ab" * 32,
    code_dim=6,
    grid_size=4,
    image_size=8,
    num_classes=5,
    views=("center", "mirror"),
    num_views=2,
    num_draws=3,
    deterministic=False,
    seed=0,
    decoder="torchvision",
    honour_exif=False,
    precision="32-true",
    shard_size=7,
    sources={"train": "1" * 64, "val": "2" * 64},
    num_images={"train": 16, "val": 3},
    classes=("a", "b", "c", "d", "e"),
)
BROKEN = {2: BrokenImage("c/2.jpg", "empty file"), 8: BrokenImage("d/8.jpg", "not: an image")}
NUM_SHARDS = {"train": 3, "val": 1}


def bits(split: str) -> np.ndarray:
    """(n, V, N, K), the same at each call."""
    generator = np.random.default_rng(len(split))
    count = SETTINGS.num_images[split]
    return generator.integers(0, 2, (count, SETTINGS.entries, 16, 6), dtype=np.uint8)


def packed(values: np.ndarray) -> np.ndarray:
    return np.packbits(values.reshape(*values.shape[:2], -1), axis=-1)


def fill(writer: StoreWriter) -> None:
    for split, count in SETTINGS.num_images.items():
        for number in range(NUM_SHARDS[split]):
            chosen = np.arange(number * 7, min(number * 7 + 7, count))
            bad = [(int(i), BROKEN[i]) for i in chosen if split == "train" and i in BROKEN]
            good = np.array([i for i in chosen if i not in dict(bad)])
            writer.write(split, number, packed(bits(split)[good]), good % 5, good, bad)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    writer = StoreWriter(tmp_path / "store", SETTINGS)
    fill(writer)
    writer.finish()
    return tmp_path / "store"


@pytest.mark.parametrize(("seq_len", "code_dim"), [(256, 24), (256, 32), (16, 12), (16, 6), (1, 8)])
def test_packing_is_numpys(seq_len: int, code_dim: int) -> None:
    codes = torch.randint(0, 2, (5, seq_len, code_dim))
    expected = np.packbits(codes.numpy().astype(np.uint8).reshape(5, -1), axis=1)
    for dtype in (torch.float32, torch.bool, torch.uint8):
        packed = pack_codes(codes.to(dtype))
        assert packed.dtype == torch.uint8
        assert np.array_equal(packed.numpy(), expected)
    unpacked = unpack_codes(packed, code_dim)
    assert unpacked.dtype == torch.float32
    assert torch.equal(unpacked, codes.float())


def test_sizes() -> None:
    assert packed_size(256, 24) == 768
    with pytest.raises(ValueError, match="3 tokens of 3 bits don't fill whole bytes"):
        packed_size(3, 3)


def test_what_was_written_is_read(store: Path) -> None:
    opened = CodesStore(store)
    assert opened.settings == SETTINGS
    opened.verify()
    train, val = opened.split("train"), opened.split("val")
    assert (len(train), len(val), train.num_entries) == (14, 3, 6)
    kept = np.array([i for i in range(16) if i not in BROKEN])
    assert train.labels.tolist() == (kept % 5).tolist()
    expected = packed(bits("train")[kept]).reshape(14 * 6, -1)
    order = np.random.default_rng(0).permutation(14 * 6)
    assert np.array_equal(train.take(order), expected[order])
    assert np.array_equal(train.take(np.array([5, 5, 0, 83])), expected[[5, 5, 0, 83]])
    assert np.array_equal(val.take(np.arange(18)), packed(bits("val")).reshape(18, -1))
    manifest = json.loads((store / "manifest.json").read_text())
    assert manifest["images"] == {"train": 14, "val": 3}
    assert manifest["left_out"] == {"train": 2, "val": 0}
    report = (store / "broken_files.txt").read_text()
    assert report == "c/2.jpg: empty file\nd/8.jpg: not: an image\n"
    indices = codes_store.read_shard(store / "train-00000.safetensors")["indices"]
    assert indices.tolist() == [0, 1, 3, 4, 5, 6]


def test_any_safetensors_reader_reads_a_shard(store: Path) -> None:
    from safetensors.numpy import load_file

    arrays = load_file(store / "val-00000.safetensors")
    assert np.array_equal(arrays["codes"], packed(bits("val")))
    assert arrays["labels"].dtype == np.uint16


def test_overhead(tmp_path: Path) -> None:
    """At 768 bytes a view, one view, everything beside the bits is below 1%."""
    settings = dataclasses.replace(
        SETTINGS,
        code_dim=24,
        grid_size=16,
        views=("center",),
        num_views=1,
        num_draws=1,
        shard_size=4096,
        num_images={"train": 4096},
        sources={"train": "1"},
    )
    writer = StoreWriter(tmp_path, settings)
    writer.write(
        "train", 0, np.zeros((4096, 1, 768), np.uint8), np.zeros(4096), np.arange(4096), []
    )
    writer.finish()
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size / (4096 * 768) <= 1.01


CHANGES: dict[str, Any] = {
    "tokenizer_sha256": "cd" * 32,
    "code_dim": 12,
    "views": ("center",),
    "num_draws": 1,
    "deterministic": True,
    "seed": 1,
    "decoder": "pil",
    "shard_size": 8,
    "sources": {"train": "3" * 64, "val": "2" * 64},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_store_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    StoreWriter(tmp_path, SETTINGS)
    StoreWriter(tmp_path, SETTINGS)  # the same: goes on
    changed = dataclasses.replace(SETTINGS, **{name: CHANGES[name]})
    with pytest.raises(StoreError, match=f"made with {name}=.*choose another output"):
        StoreWriter(tmp_path, changed)


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"can't be written .*choose another output"):
        StoreWriter(tmp_path / "file", SETTINGS)


def test_too_little_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """19 images x 6 entries x 12 bytes; half of it done leaves less to do."""
    usage = shutil._ntuple_diskusage  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6, 1300))
    with pytest.raises(StoreError, match=r"are to be written, and 0.0 MB are free"):
        StoreWriter(tmp_path, SETTINGS)
    monkeypatch.undo()
    writer = StoreWriter(tmp_path, SETTINGS)
    writer.write("train", 0, np.zeros((7, 6, 12), np.uint8), np.zeros(7), np.arange(7), [])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6, 1300))
    StoreWriter(tmp_path, SETTINGS)


def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there stays, no half shard is left, and the next start goes on."""
    writer = StoreWriter(tmp_path, SETTINGS)
    fill(writer)
    os.unlink(tmp_path / "val-00000.safetensors")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"No space left on device.*give the same command again"):
        fill(writer)
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*.part"))
    assert not writer.has("val", 0)
    assert writer.has("train", 2)


def test_unfinished_store_is_refused(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, SETTINGS)
    with pytest.raises(StoreError, match=r"isn't finished: give its python -m bigr.tokenize"):
        CodesStore(tmp_path)
    with pytest.raises(StoreError, match=r"train-00000.safetensors is missing"):
        writer.finish()


def test_damage_is_found(store: Path) -> None:
    path = store / "train-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"train-00001.safetensors is damaged"):
        CodesStore(store).verify()
    path.write_bytes(data[:100])
    with pytest.raises(StoreError, match=r"train-00001.safetensors is missing or broken"):
        CodesStore(store).split("train")
    shutil.copy(store / "train-00000.safetensors", path)
    manifest = store / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"images": 6', '"images": 5'))
    with pytest.raises(StoreError, match=r"has 6 images, and manifest\.json says 5"):
        CodesStore(store).split("train")


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no codes \(there is no manifest.json\)"):
        CodesStore(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="can't be read"):
        CodesStore(tmp_path)


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
    with pytest.raises(StoreError, match="already there"):
        write_released(CodesStore(store), tmp_path / "released")
    with pytest.raises(StoreError, match="84 labels with 8 bits on 4x4 tokens need 10752"):
        ReleasedCodes(tmp_path / "released", "train", 8, 4)
    shutil.rmtree(tmp_path / "released")
    with pytest.raises(StoreError, match=r"val_ids.bin is missing"):
        ReleasedCodes(tmp_path / "released", "val", 6, 4)
