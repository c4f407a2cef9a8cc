"""Held-out images: disjoint, balanced, and independent of everything but their number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bigr.data.sources.find import find_source
from bigr.data.sources.held_out import hold_out
from bigr.data.sources.source import ImageSource


class NumberedSource(ImageSource):
    """An image's content is its number."""

    def __init__(self, labels: list[int], blocks: list[int] | None = None) -> None:
        super().__init__(np.array(labels), [str(label) for label in range(max(labels) + 1)])
        self._blocks = blocks

    def name(self, index: int) -> str:
        return f"image {index}"

    def read(self, index: int) -> bytes:
        return str(index).encode()

    @property
    def blocks(self) -> NDArray[np.int64] | None:
        return None if self._blocks is None else np.array(self._blocks)


def test_every_class_gives_its_share() -> None:
    whole = NumberedSource([0] * 20 + [1] * 4 + [2])
    train, val = hold_out(whole, 0.25)
    assert np.bincount(val.labels, minlength=3).tolist() == [5, 1, 0]
    assert np.bincount(train.labels).tolist() == [15, 3, 1]
    found = [int(part.read(i)) for part in (train, val) for i in range(len(part))]
    assert sorted(found) == list(range(25))
    assert found[:19] == sorted(found[:19])  # in the order of the whole
    assert val.name(0) == f"image {val.read(0).decode()}"
    assert train.classes == whole.classes


def test_the_draw_is_always_the_same_and_random() -> None:
    first, again = (hold_out(NumberedSource([0] * 100), 0.1)[1] for _ in range(2))
    assert first.indices.tolist() == again.indices.tolist()
    assert first.indices.tolist() not in (list(range(10)), list(range(90, 100)))
    two = hold_out(NumberedSource([0] * 100 + [1] * 100), 0.1)[1].indices
    assert (two[10:] - 100).tolist() != two[:10].tolist()


def test_a_large_share_leaves_an_image_for_training() -> None:
    train, val = hold_out(NumberedSource([0, 0, 0]), 0.99)
    assert (len(train), len(val)) == (1, 2)


def test_single_images_cannot_be_held_out() -> None:
    with pytest.raises(ValueError, match="every class has a single image"):
        hold_out(NumberedSource([0, 1, 2]))


def test_blocks_are_those_of_the_whole() -> None:
    whole = NumberedSource([0] * 12, blocks=[0, 4, 8])
    for part in hold_out(whole, 0.4):
        assert part.blocks is not None
        owners = part.indices // 4
        assert part.blocks.tolist() == [owners.tolist().index(b) for b in sorted(set(owners))]


def test_fingerprints_of_parts_differ(roots: dict[str, Path]) -> None:
    whole = find_source(roots["parquet"], "train")
    prints = {part.fingerprint() for share in (0.2, 0.5) for part in hold_out(whole, share)}
    assert len(prints) == 4
    other = find_source(roots["folders"], "train")
    assert hold_out(whole, 0.2)[0].fingerprint() != hold_out(other, 0.2)[0].fingerprint()
