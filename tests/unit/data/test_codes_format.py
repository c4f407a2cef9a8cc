"""Files of packed codes: what a shard contains, and which content is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigr.data.broken import BrokenImage
from bigr.data.codes_format import StoreError, broken_in, check_shard, open_shard, read_shard
from tests.codes_stores import BROKEN, SETTINGS, bits, packed


def test_any_safetensors_reader_reads_a_shard(store: Path) -> None:
    from safetensors.numpy import load_file

    arrays = load_file(store / "val-00000.safetensors")
    assert np.array_equal(arrays["codes"], packed(bits("val")))
    assert arrays["labels"].dtype == np.uint16


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
        read_shard(path)


def test_a_huge_header_is_refused(store: Path) -> None:
    path = store / "train-00000.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(StoreError, match="missing or broken"):
        read_shard(path)


def test_codes_are_mapped_instead_of_read(store: Path) -> None:
    """Arrays show what is on disk now."""
    path = store / "val-00000.safetensors"
    before = read_shard(path)["codes"]
    first = int(before[0, 0, 0])
    data = path.read_bytes()
    size = 8 + int.from_bytes(data[:8], "little")
    start = size + json.loads(data[8:size])["codes"]["data_offsets"][0]
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes([first ^ 255]))
    assert int(read_shard(path)["codes"][0, 0, 0]) == first ^ 255
    assert int(before[0, 0, 0]) == first ^ 255


def arrays_of(split: str, number: int) -> dict[str, Any]:
    chosen = [i for i in range(7 * number, 7 * number + 7) if i not in BROKEN]
    listed = [[i, *BROKEN[i]] for i in range(7 * number, 7 * number + 7) if i in BROKEN]
    return {
        "codes": packed(bits(split)[chosen]),
        "labels": np.array(chosen) % 5,
        "indices": np.array(chosen),
        "broken": np.frombuffer(json.dumps(listed).encode(), np.uint8),
    }


def as_json(value: Any) -> Any:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


WRONG_CONTENT = {
    "a label": ({"labels": np.array([0, 1, 3, 4, 5, 1])}, "labels up to 5 for 5 classes"),
    "a negative label": ({"labels": np.array([0, 1, -3, 4, 3, 1])}, "labels up to 4"),
    "the same image twice": ({"indices": np.array([0, 1, 3, 4, 5, 5])}, "the images 0 to 6"),
    "an image of another shard": ({"indices": np.array([0, 1, 3, 4, 5, 7])}, "the images 0 to 6"),
    "an image neither here nor broken": ({"broken": as_json([])}, "the images 0 to 6"),
    "broken images without names": ({"broken": as_json([2])}, "broken images can't be read"),
    "broken images that are no list": ({"broken": as_json(5)}, "broken images can't be read"),
    "a huge number": ({"broken": as_json([[10**30, "a", "b"]])}, "broken images can't be read"),
    "no JSON": ({"broken": np.zeros(5, np.uint8)}, "broken images can't be read"),
    "another view": ({"codes": np.zeros((6, 5, 12), np.uint8)}, r"\(6, 5, 12\) instead of \(6, 6"),
}


@pytest.mark.parametrize("kind", WRONG_CONTENT)
def test_content_that_does_not_fit(kind: str) -> None:
    arrays = arrays_of("train", 0)
    check_shard(arrays, SETTINGS, "train", 0)
    change, message = WRONG_CONTENT[kind]
    with pytest.raises(ValueError, match=message):
        check_shard({**arrays, **change}, SETTINGS, "train", 0)


def test_a_shard_in_place_of_another(store: Path) -> None:
    shutil.copy(store / "train-00000.safetensors", store / "train-00001.safetensors")
    with pytest.raises(StoreError, match=r"train-00001.*does not contain the images 7 to 13"):
        open_shard(store, SETTINGS, "train", 1)
    left_out = broken_in(open_shard(store, SETTINGS, "train", 0))
    assert left_out == [(2, BrokenImage("c/2.jpg", "empty file"))]
