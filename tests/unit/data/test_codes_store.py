"""Reading of stores: what was written is read, damage is found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigr.data import codes_store
from bigr.data.codes_store import CodesStore, StoreError
from tests.codes_stores import BROKEN, SETTINGS, bits, packed


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
    with pytest.raises(StoreError, match=r"has 6 images, but manifest\.json says 5"):
        CodesStore(store).split("train")


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"contains no codes \(there is no manifest.json\)"):
        CodesStore(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="can't be read"):
        CodesStore(tmp_path)


def header(path: Path, **changes: Any) -> None:
    """Rewrite the header of a shard; its data stay as they are."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    about = json.loads(data[8 : 8 + size])
    for name, change in changes.items():
        about[name].update(change)
    text = json.dumps(about).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


CRAFTED = {
    "data beyond the end": {"codes": {"data_offsets": [0, 10**12]}},
    "a shape that the data do not have": {"codes": {"shape": [10**6, 6, 12]}},
    "negative offsets": {"codes": {"data_offsets": [-8, 8]}},
    "overlapping arrays": {"labels": {"data_offsets": [0, 12]}},
    "another type": {"codes": {"dtype": "I8"}},
    "an unknown type": {"codes": {"dtype": "OBJECT"}},
    "fewer labels than codes": {"labels": {"dtype": "U32", "shape": [3]}},
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_crafted_headers_are_refused(store: Path, kind: str) -> None:
    path = store / "train-00000.safetensors"
    header(path, **CRAFTED[kind])
    with pytest.raises(StoreError, match=r"train-00000.safetensors is missing or broken"):
        codes_store.read_shard(path)


def test_a_huge_header_is_refused(store: Path) -> None:
    path = store / "train-00000.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(StoreError, match="missing or broken"):
        codes_store.read_shard(path)


def test_codes_are_mapped_instead_of_read(store: Path) -> None:
    """Arrays show what is on disk now."""
    path = store / "val-00000.safetensors"
    before = codes_store.read_shard(path)["codes"]
    first = int(before[0, 0, 0])
    data = path.read_bytes()
    size = 8 + int.from_bytes(data[:8], "little")
    start = size + json.loads(data[8:size])["codes"]["data_offsets"][0]
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes([first ^ 255]))
    assert int(codes_store.read_shard(path)["codes"][0, 0, 0]) == first ^ 255
    assert int(before[0, 0, 0]) == first ^ 255


def test_settings_of_another_version(store: Path) -> None:
    path = store / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["settings"]["code_dim"] = 0
    path.write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=r"StoreSettings\.code_dim must be a positive integer"):
        CodesStore(store)
