"""Files of features: written once, in any order, by any number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bigr.evaluation.feature_chunks import FeatureChunks, split
from bigr.inference.processes import ALONE, Processes


def squares(todo: Sequence[range]) -> Iterator[dict[str, Tensor]]:
    """Image i has the features (i, i²), in batches of up to three."""
    for images in split(todo, 3):
        x = torch.tensor(list(images)).float()
        yield {"pool": torch.stack([x, x * x], dim=1), "logits": x[:, None]}


def read(chunks: FeatureChunks) -> np.ndarray:
    return np.concatenate([arrays["pool"] for arrays in chunks.read("pool")])


def test_split() -> None:
    assert list(split([range(2, 9), range(20, 21)], 3)) == [
        range(2, 5), range(5, 8), range(8, 9), range(20, 21),
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_processes_share_the_files(tmp_path: Path, count: int) -> None:
    """Each file is written by one process, and together they hold every image once."""
    chunks = FeatureChunks(tmp_path / "f", {"of": "squares"}, 17, 4)
    todo = chunks.pending()
    assert [len(images) for images in todo] == [4, 4, 4, 4, 1]
    for rank in range(count):
        done: list[int] = []
        shared = Processes(rank, count, broadcast=lambda _: todo)
        chunks.fill(shared, squares, done.append)
        assert sum(done) == count * sum(len(images) for images in todo[rank::count])
    assert chunks.pending() == []
    assert read(chunks).tolist() == [[i, i * i] for i in range(17)]
    features = [feature.logits for feature in chunks.features()]
    assert torch.cat(features).flatten().tolist() == list(range(17))


def test_only_missing_files_are_computed(tmp_path: Path) -> None:
    chunks = FeatureChunks(tmp_path / "f", {}, 10, 4)
    chunks.fill(ALONE, squares)
    before = chunks.path(0).stat().st_mtime_ns
    chunks.path(4).unlink()
    asked: list[range] = []

    def noted(todo: Sequence[range]) -> Iterator[dict[str, Tensor]]:
        asked.extend(todo)
        yield from squares(todo)

    done: list[int] = []
    chunks.fill(ALONE, noted, done.append)
    assert asked == [range(4, 8)]
    assert done == [6, 3, 1]  # those of before first
    assert chunks.path(0).stat().st_mtime_ns == before
    assert read(chunks)[:, 0].tolist() == list(range(10))


def test_other_settings_are_refused(tmp_path: Path) -> None:
    FeatureChunks(tmp_path / "f", {"seed": 1}, 10, 4)
    FeatureChunks(tmp_path / "f", {"seed": 1}, 10, 4)
    with pytest.raises(ValueError, match=r"features of another evaluation \(seed was 1, is 2\)"):
        FeatureChunks(tmp_path / "f", {"seed": 2}, 10, 4)


def test_features_that_are_not_finite(tmp_path: Path) -> None:
    def broken(todo: Sequence[range]) -> Iterator[dict[str, Tensor]]:
        for arrays in squares(todo):
            arrays["pool"][arrays["pool"][:, 0] == 6] = float("nan")
            yield arrays

    chunks = FeatureChunks(tmp_path / "f", {}, 10, 4)
    with pytest.raises(ValueError, match="the features of image 6 are not finite"):
        chunks.fill(ALONE, broken)
    assert chunks.pending() == [range(4, 8), range(8, 10)]


def test_remove(tmp_path: Path) -> None:
    chunks = FeatureChunks(tmp_path / "f", {}, 2, 4)
    chunks.remove()
    assert not (tmp_path / "f").exists()
