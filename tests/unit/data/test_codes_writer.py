"""Writing of stores: resuming, damage, other settings, full disks, other writers."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigr.data import codes_writer
from bigr.data.broken import BrokenImage
from bigr.data.codes_format import StoreError, StoreSettings, shard_name
from bigr.data.codes_store import CodesStore
from bigr.data.codes_writer import StoreWriter
from bigr.data.locks import LockedError, only_writer
from tests.codes_stores import NUM_SHARDS, SETTINGS, fill


def opened(folder: Path, settings: StoreSettings = SETTINGS) -> StoreWriter:
    """A writer of a store that was opened; the lock is released."""
    writer = StoreWriter(folder, settings)
    with writer.open():
        return writer


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a store, without those of its lock."""
    paths = [path for path in folder.iterdir() if not path.name.startswith(".bigr")]
    return {path.name: path.read_bytes() for path in paths}


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
    for _ in range(2):
        opened(tmp_path, SETTINGS)  # the same: goes on
    changed = dataclasses.replace(SETTINGS, **{name: CHANGES[name]})
    with pytest.raises(StoreError, match=f"made with {name}=.*choose another output"):
        opened(tmp_path, changed)


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"can't be written .*choose another output"):
        opened(tmp_path / "file", SETTINGS)


def test_too_little_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """19 images x 6 entries x 12 bytes; half of it done leaves less to do."""
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6, 1300))
    with pytest.raises(StoreError, match=r"but only 0.0 MB are free"):
        opened(tmp_path, SETTINGS)
    monkeypatch.undo()
    writer = opened(tmp_path, SETTINGS)
    writer.write("train", 0, np.zeros((7, 6, 12), np.uint8), np.zeros(7), np.arange(7), [])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6, 1300))
    opened(tmp_path, SETTINGS)


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
    writer = opened(tmp_path, SETTINGS)
    with pytest.raises(StoreError, match=r"is incomplete: run the python -m bigr.tokenize"):
        CodesStore(tmp_path)
    with pytest.raises(StoreError, match=r"train-00000.safetensors is missing"):
        writer.finish()


SHARDS = [(split, number) for split, count in NUM_SHARDS.items() for number in range(count)]


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("is_finished", [False, True])
@pytest.mark.parametrize("place", [100, -1])
def test_damage_is_found_when_the_command_is_repeated(
    tmp_path: Path, is_finished: bool, place: int
) -> None:
    """And afterwards the store is the same as if nothing had happened."""
    writer = opened(tmp_path)
    fill(writer)
    if is_finished:
        writer.finish()
    before = contents(tmp_path)
    path = tmp_path / "train-00001.safetensors"
    flip(path, place)
    damaged = contents(tmp_path)
    with pytest.raises(StoreError, match=r"train-00001.safetensors is damaged .*: remove it, and"):
        opened(tmp_path)
    assert contents(tmp_path) == damaged
    path.unlink()
    writer = opened(tmp_path)
    assert [shard for shard in SHARDS if not writer.has(*shard)] == [("train", 1)]
    fill(writer)
    writer.finish()
    opened(tmp_path)
    if is_finished:
        assert contents(tmp_path) == before


def test_checksums_are_those_of_what_was_written(tmp_path: Path) -> None:
    """Damage between writing and the end is not signed."""
    writer = opened(tmp_path)
    fill(writer)
    path = tmp_path / "train-00000.safetensors"
    line = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    assert path.with_name(path.name + ".sha256").read_text() == line  # as sha256sum reads it
    flip(path, -1)  # the bits of an image
    writer.finish()
    with pytest.raises(StoreError, match=r"train-00000.safetensors is damaged"):
        CodesStore(tmp_path).split("train")


def test_a_damaged_checksum(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    fill(writer)
    (tmp_path / "train-00000.safetensors.sha256").write_bytes(b"\xff\xfe")
    with pytest.raises(StoreError, match=r"train-00000.safetensors is damaged"):
        opened(tmp_path)
    os.unlink(tmp_path / "train-00000.safetensors.sha256")
    os.mkfifo(tmp_path / "train-00000.safetensors.sha256")
    with pytest.raises(StoreError, match=r"sha256 is a named pipe"):
        opened(tmp_path)


def test_the_comparison_can_be_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(opened(tmp_path))
    flip(tmp_path / "train-00000.safetensors", -1)
    monkeypatch.setenv("BIGR_VERIFY", "0")
    opened(tmp_path)


def test_settings_that_an_older_version_did_not_know(tmp_path: Path) -> None:
    """An unfinished store without them is continued; one with features is another store."""
    opened(tmp_path)
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in ("feature_dim", "feature_encoder"):
        del manifest["settings"][name]
    path.write_text(json.dumps({k: v for k, v in manifest.items() if k != "sha256"}))
    opened(tmp_path)
    with pytest.raises(StoreError, match="feature_dim=0, but this command has feature_dim=3"):
        opened(tmp_path, dataclasses.replace(SETTINGS, feature_dim=3))


def test_finished_stores_of_older_versions(tmp_path: Path) -> None:
    """Their checksums are in the manifest alone; they are kept, not computed again."""
    writer = opened(tmp_path)
    fill(writer)
    writer.finish()
    before = contents(tmp_path)
    for path in tmp_path.glob("*.sha256"):
        path.unlink()
    manifest = json.loads(before["manifest.json"])
    manifest.pop("sha256")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    path = tmp_path / "train-00002.safetensors"
    flip(path, -1)
    with pytest.raises(StoreError, match=r"train-00002.safetensors is damaged"):
        opened(tmp_path)
    flip(path, -1)
    opened(tmp_path).finish()
    assert contents(tmp_path) == before


def test_shards_without_a_checksum_are_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(opened(tmp_path))
    (tmp_path / "val-00000.safetensors.sha256").unlink()
    caplog.set_level(logging.WARNING)
    writer = opened(tmp_path)
    assert not writer.has("val", 0)
    assert "1 shards have no checksum, and are created again" in caplog.text


def test_a_shard_that_belongs_elsewhere(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    fill(writer)
    for suffix in ("", ".sha256"):
        source, target = (tmp_path / (shard_name("train", n) + suffix) for n in (0, 1))
        shutil.copy(source, target)
    with pytest.raises(StoreError, match=r"train-00001.* does not contain the images 7 to 13"):
        writer.finish()


def test_arrays_that_do_not_fit_are_not_written(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    codes, indices = np.zeros((3, 6, 12), np.uint8), np.arange(3)
    for labels in (np.array([0, 5, 1]), np.array([0, 2**16, 1]), np.array([0, -1, 1])):
        with pytest.raises(StoreError, match=r"val-00000.* can't be written: it has labels"):
            writer.write("val", 0, codes, labels, indices, [])
    bad = [(2, BrokenImage("c", "broken"))]
    with pytest.raises(StoreError, match="does not contain the images 0 to 2"):
        writer.write("val", 0, codes, np.zeros(3), indices, bad)
    assert not writer.has("val", 0)


def test_one_writer_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = functools.partial(only_writer, wait_seconds=0.0)
    monkeypatch.setattr(codes_writer, "only_writer", at_once)
    in_use = f"is in use by .*process {os.getpid()}"
    with StoreWriter(tmp_path, SETTINGS).open(), pytest.raises(LockedError, match=in_use):
        opened(tmp_path)
    opened(tmp_path)


def test_a_full_disk_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = opened(tmp_path)
    fill(writer)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"No space left on device.*run the same command again"):
        writer.finish()
    monkeypatch.undo()
    opened(tmp_path).finish()
    assert len(CodesStore(tmp_path).split("train")) == 14
