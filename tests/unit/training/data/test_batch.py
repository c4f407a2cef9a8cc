"""Batches of any loader, and the split of a global batch."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from bigr.training.data.batch import Batch, batch_size_of, split_batch


@pytest.mark.parametrize(
    ("total", "devices", "most", "expected"),
    [
        (1024, 8, 128, (128, 1)),
        (512, 32, 128, (16, 1)),
        (1024, 1, 128, (128, 8)),
        (1024, 1, 100, (64, 16)),  # 11 of 93 is no even split
        (512, 32, 6, (4, 4)),
        (96, 3, 32, (32, 1)),
        (4, 1, 128, (4, 1)),
    ],
)
def test_fewest_accumulations(
    total: int, devices: int, most: int, expected: tuple[int, int]
) -> None:
    size, steps = split_batch(total, devices, most)
    assert (size, steps) == expected
    assert size * steps * devices == total


def test_impossible_splits() -> None:
    with pytest.raises(ValueError, match="can't be shared evenly by 3 devices: use 1023 or 1026"):
        split_batch(1024, 3, 128)
    with pytest.raises(ValueError, match="can't be shared evenly by 8 devices: use 8"):
        split_batch(4, 8, 128)
    with pytest.raises(ValueError, match=r"batches of 1 where data\.batch_size=128 would fit"):
        split_batch(1021, 1, 128)


def test_pairs_of_any_loader_become_batches() -> None:
    labels = torch.tensor([1, 2], dtype=torch.int32)
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    batch = Batch.of([pixels, labels])
    assert batch.images is not None
    assert batch.images[1, :, 0, 0].tolist() == pytest.approx([0.0, 0.2, 1.0])
    assert batch.labels.dtype == torch.int64
    codes = Batch.of((torch.ones(2, 5, 6, dtype=torch.bool), labels))
    assert codes.images is None
    assert codes.codes is not None
    assert codes.codes.dtype == torch.float32
    assert Batch.of(batch) is batch


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (torch.zeros(2, 3), "a tensor of shape (2, 3)"),
        ([torch.zeros(2, 1, 4, 4), torch.zeros(2)], "a list of a tensor of shape (2, 1, 4, 4), a"),
        ({"image": 1}, "a dict"),
    ],
)
def test_other_batches_are_refused(given: Any, what: str) -> None:
    with pytest.raises(ValueError, match=re.escape(what)):
        Batch.of(given)


def test_batch_size_of_any_structure() -> None:
    assert batch_size_of({"id": 3, "x": torch.zeros(7, 2)}) == 7
    assert batch_size_of((None, [torch.zeros(5)])) == 5
    assert batch_size_of(Batch(torch.zeros(4))) == 4
    assert batch_size_of(["text"]) == 0
