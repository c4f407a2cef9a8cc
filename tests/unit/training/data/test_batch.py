"""A global batch shared out."""

from __future__ import annotations

import pytest

from bigr.training.data.batch import split_batch


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
