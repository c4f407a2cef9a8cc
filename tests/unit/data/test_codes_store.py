"""Reading of stores: what was written is read, damage is found."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigr.data import codes_store
from bigr.data.codes_format import StoreError, read_shard
from bigr.data.codes_store import CodesStore
from bigr.data.codes_writer import StoreWriter
from tests.codes_stores import (
    BROKEN,
    SETTINGS,
    bits,
    make_store_with_features,
    packed,
    view_features,
)


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
    indices = read_shard(store / "train-00000.safetensors")["indices"]
    assert indices.tolist() == [0, 1, 3, 4, 5, 6]


def test_features_are_those_of_the_view(tmp_path: Path) -> None:
    """All draws of a view share its features, across shards and in any order."""
    make_store_with_features(tmp_path)
    train = CodesStore(tmp_path).split("train")
    order = np.random.default_rng(0).permutation(16 * 6)
    found = train.take_features(order)
    assert found.dtype == np.float16
    for index, features in zip(order, found, strict=True):
        image, entry = divmod(int(index), 6)
        assert np.array_equal(features, view_features("train")[image, entry // 3])
    assert np.array_equal(train.take(order), packed(bits("train")).reshape(96, -1)[order])


def test_features_have_the_shape_of_the_settings(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no features: use python -m bigr\.tokenize features="):
        CodesStore(store).split("train").take_features(np.array([0]))
    for settings, features in [
        (SETTINGS, view_features("val")),
        (dataclasses.replace(SETTINGS, feature_dim=4), view_features("val")),
        (dataclasses.replace(SETTINGS, feature_dim=4), None),
    ]:
        writer = StoreWriter(tmp_path / "other", settings)
        codes, labels = packed(bits("val")), np.zeros(3, np.int64)
        with pytest.raises(StoreError, match="its features have the shape"):
            writer.write("val", 0, codes, labels, np.arange(3), [], features)


def test_damage_is_found(store: Path) -> None:
    path = store / "train-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"train-00001.safetensors is damaged"):
        CodesStore(store).verify()
    path.write_bytes(data[:100])
    with pytest.raises(StoreError, match=r"train-00001.safetensors is damaged"):
        CodesStore(store).split("train")
    path.unlink()
    with pytest.raises(StoreError, match=r"train-00001.safetensors can't be read \(No such file"):
        CodesStore(store).split("train")
    os.mkfifo(path)
    with pytest.raises(StoreError, match=r"train-00001.safetensors is a named pipe"):
        CodesStore(store).split("train")
    assert len(CodesStore(store).split("val")) == 3  # its files are intact


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"contains no codes \(there is no manifest.json\)"):
        CodesStore(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match=r"manifest.json is damaged"):
        CodesStore(tmp_path)


def flip_last_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_the_comparison_can_be_skipped(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip_last_bit(store / "val-00000.safetensors")
    with pytest.raises(StoreError, match=r"val-00000.safetensors is damaged"):
        CodesStore(store).split("val")
    monkeypatch.setenv("BIGR_VERIFY", "0")
    assert len(CodesStore(store).split("val")) == 3
    with pytest.raises(StoreError, match=r"val-00000.safetensors is damaged"):
        CodesStore(store).verify("val")


def test_a_long_comparison_is_logged(
    store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    CodesStore(store).split("train")
    assert caplog.messages == []
    monkeypatch.setattr(codes_store, "PATIENCE", 0.0)
    CodesStore(store).split("train")
    assert caplog.messages[0].startswith("verified 0.0 GB of codes in ")


def change_manifest(store: Path, change: Any, *, is_sealed: bool) -> None:
    """Apply ``change`` to the manifest; without a checksum, as older versions wrote it."""
    path = store / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    if not is_sealed:
        manifest.pop("sha256")
    path.write_text(json.dumps(manifest))


TAMPERED = {
    "num_views": lambda manifest: manifest["settings"].update(num_views=1),
    "num_draws": lambda manifest: manifest["settings"].update(num_draws=1),
    "code_dim": lambda manifest: manifest["settings"].update(code_dim=12),
    "num_classes": lambda manifest: manifest["settings"].update(num_classes=4),
    "images": lambda manifest: manifest["shards"]["train"][1].update(images=5),
    "a shard too few": lambda manifest: manifest["shards"]["train"].pop(),
    "a shard twice": lambda manifest: manifest["shards"]["train"].__setitem__(
        1, manifest["shards"]["train"][0]
    ),
    "a split too few": lambda manifest: manifest["shards"].pop("val"),
    "another folder": lambda manifest: manifest["shards"]["val"][0].update(file="../x"),
    "shards": lambda manifest: manifest.update(shards=[]),
    "a shard that is a number": lambda manifest: manifest["shards"].update(val=[5]),
    "no settings": lambda manifest: manifest.update(settings=None),
    "an unknown key": lambda manifest: manifest.update(sha257="0"),
    "an unknown split": lambda manifest: manifest["settings"].update(num_images={"../x": 3}),
    "huge numbers": lambda manifest: manifest["settings"].update(
        num_images={"train": 10**18, "val": 3}, shard_size=4 * 10**17
    ),
    "a word": lambda manifest: manifest["settings"].update(grid_size="4"),
    "zero": lambda manifest: manifest["settings"].update(code_dim=0),
    "another format": lambda manifest: manifest.update(format="other"),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_tampered_manifests_are_refused(store: Path, kind: str) -> None:
    """By the checksum, and where older versions wrote none, by comparison with the shards."""

    def read_everything() -> None:
        opened = CodesStore(store)
        for split in opened.shards:
            opened.split(split)

    before = (store / "manifest.json").read_bytes()
    change_manifest(store, TAMPERED[kind], is_sealed=True)
    with pytest.raises(StoreError, match=r"manifest.json is damaged .* restore it from a copy"):
        read_everything()
    (store / "manifest.json").write_bytes(before)
    change_manifest(store, TAMPERED[kind], is_sealed=False)
    with pytest.raises(StoreError, match=str(store)):
        read_everything()


def test_stores_of_older_versions_are_read(store: Path) -> None:
    """Their manifest has no checksum of itself, and there are none beside the shards."""
    change_manifest(store, lambda manifest: None, is_sealed=False)
    for path in store.glob("*.sha256"):
        path.unlink()
    assert len(CodesStore(store).split("train")) == 14
    flip_last_bit(store / "train-00000.safetensors")
    with pytest.raises(StoreError, match=r"train-00000.safetensors is damaged"):
        CodesStore(store).split("train")


def test_a_manifest_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(StoreError, match=r"manifest.json is damaged .*a named pipe"):
        CodesStore(tmp_path)
