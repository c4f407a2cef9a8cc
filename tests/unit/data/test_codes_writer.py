"""Writing of stores: resuming, other settings, full disks."""

from __future__ import annotations

import collections
import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigr.data.codes_store import CodesStore, StoreError
from bigr.data.codes_writer import StoreWriter
from tests.codes_stores import SETTINGS, fill


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
    usage = collections.namedtuple("usage", "total used free")
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
    with pytest.raises(StoreError, match=r"No space left on device.*run the same command again"):
        fill(writer)
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*.part"))
    assert not writer.has("val", 0)
    assert writer.has("train", 2)


def test_unfinished_store_is_refused(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, SETTINGS)
    with pytest.raises(StoreError, match=r"is incomplete: run its python -m bigr.tokenize"):
        CodesStore(tmp_path)
    with pytest.raises(StoreError, match=r"train-00000.safetensors is missing"):
        writer.finish()
