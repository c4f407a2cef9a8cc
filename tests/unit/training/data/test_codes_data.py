"""Codes from a store to a batch; training on them is in tests/integration/test_data_modules.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bigr.data.codes_format import StoreError
from bigr.training.data.codes_data import CodesDataModule
from tests.integration.test_data_modules import codes_of, make_store


def build(root: Path, **settings: Any) -> CodesDataModule:
    values = {"code_dim": 6, "grid_size": 4, "num_classes": 3, "batch_size": 4}
    data = CodesDataModule(root=str(root), **{**values, **settings})
    data.setup("fit")
    return data


def test_validation_reads_the_first_entry_of_each_image(tmp_path: Path) -> None:
    data = build(make_store(tmp_path))
    assert data.provides == "codes"
    assert (data.num_images("train"), data.num_images("val")) == (40, 5)
    unpacked = [data.on_after_batch_transfer(batch, 0) for batch in data.val_dataloader()]
    codes = torch.cat([batch.codes for batch in unpacked if batch.codes is not None])
    assert np.array_equal(codes.numpy(), codes_of("val")[:, 0])
    assert torch.cat([batch.labels for batch in unpacked]).tolist() == [0, 1, 2, 0, 1]
    again = data.on_after_batch_transfer(unpacked[0], 0)
    assert again.codes is unpacked[0].codes


def test_chosen_images_in_a_chosen_order(tmp_path: Path) -> None:
    data = build(make_store(tmp_path))
    (batch,) = data.ordered_loader("train", [[7, 2]])
    codes = data.on_after_batch_transfer(batch, 0).codes
    assert codes is not None
    assert np.array_equal(codes.numpy(), codes_of("train")[[7, 2], 0])


def test_a_store_without_validation(tmp_path: Path) -> None:
    data = build(make_store(tmp_path, num_images={"train": 40}, sources={"train": "1"}))
    assert data.num_images("val") == 0
    assert list(data.val_dataloader()) == []


def test_sizes_that_follow_from_the_store(tmp_path: Path) -> None:
    data = build(make_store(tmp_path), code_dim=None, grid_size=None)
    assert (data.code_dim, data.grid_size) == (6, 4)
    assert data.classes == ["a", "b", "c"]


def test_other_classes(tmp_path: Path) -> None:
    make_store(tmp_path)
    with pytest.raises(StoreError, match=r"has 3 classes.*set data\.num_classes=3"):
        build(tmp_path, num_classes=1000)
    with pytest.raises(ValueError, match="grid_size must be a positive integer or null, got 0"):
        build(tmp_path, grid_size=0)


def test_damaged_codes_are_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 kB of inverted bits were once trained on without a word."""
    path = make_store(tmp_path) / "val-00000.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-12] + bytes(255 - byte for byte in data[-12:]))
    with pytest.raises(StoreError, match=r"val-00000\.safetensors is damaged .*tokenize"):
        build(tmp_path)
    monkeypatch.setenv("BIGR_VERIFY", "0")
    assert build(tmp_path).num_images("val") == 5
