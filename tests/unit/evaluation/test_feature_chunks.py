"""Files of features: written once, in any order, by any number of processes."""

from __future__ import annotations

import logging
import os
import shutil
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
    with pytest.raises(
        ValueError, match=r"features of another evaluation \(seed was 1 and is now 2\)"
    ):
        FeatureChunks(tmp_path / "f", {"seed": 2}, 10, 4)


def test_features_that_are_not_finite(tmp_path: Path) -> None:
    def broken(todo: Sequence[range]) -> Iterator[dict[str, Tensor]]:
        for arrays in squares(todo):
            arrays["pool"][arrays["pool"][:, 0] == 6] = float("nan")
            yield arrays

    chunks = FeatureChunks(tmp_path / "f", {}, 10, 4)
    with pytest.raises(ValueError, match=r"the features \(pool\) of image 6 are not finite"):
        chunks.fill(ALONE, broken)
    assert chunks.pending() == [range(4, 8), range(8, 10)]


def test_remove(tmp_path: Path) -> None:
    chunks = FeatureChunks(tmp_path / "f", {}, 2, 4)
    chunks.remove()
    assert not (tmp_path / "f").exists()


def test_every_array_must_be_finite(tmp_path: Path) -> None:
    """Not only the first one; labels and pixels are no floats."""

    def broken(todo: Sequence[range]) -> Iterator[dict[str, Tensor]]:
        for arrays in squares(todo):
            arrays["images"] = torch.zeros(len(arrays["pool"]), 2, dtype=torch.uint8)
            arrays["logits"][arrays["logits"] == 3] = -float("inf")
            yield arrays

    chunks = FeatureChunks(tmp_path / "f", {}, 10, 4)
    with pytest.raises(ValueError, match=r"the features \(logits\) of image 3 are not finite"):
        chunks.fill(ALONE, broken)


def test_arrays_of_different_lengths_are_refused(tmp_path: Path) -> None:
    def uneven(todo: Sequence[range]) -> Iterator[dict[str, Tensor]]:
        for arrays in squares(todo):
            yield {**arrays, "logits": arrays["logits"][1:]}

    with pytest.raises(ValueError, match="2 logits were computed for 4 images"):
        FeatureChunks(tmp_path / "f", {}, 10, 4).fill(ALONE, uneven)


def filled(folder: Path, **settings: int) -> FeatureChunks:
    chunks = FeatureChunks(folder, settings, 10, 4)
    chunks.fill(ALONE, squares)
    return chunks


def with_three_images(path: Path) -> None:
    """A valid file without the last image."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **{n: a if n == "identity" else a[:3] for n, a in arrays.items()})


def without_identity(path: Path) -> None:
    """What an older version wrote."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name != "identity"}
    np.savez(path, **arrays)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "an image too few": with_three_images,
    "of an older version": without_identity,
    "of other images": lambda path: shutil.copy(path.with_name("images_0000000.npz"), path),
    "of other settings": lambda path: shutil.copy(
        filled(path.parents[1] / "other", seed=2).path(4), path
    ),
    "a pipe": pipe,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_files_are_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    chunks = filled(tmp_path / "f", seed=1)
    DAMAGE[kind](chunks.path(4))
    with pytest.raises(ValueError, match=r"images_0000004\.npz .*: run the same command again"):
        read(chunks)
    caplog.set_level(logging.WARNING)
    assert chunks.pending() == [range(4, 8)]
    assert "images_0000004.npz" in caplog.text
    assert "images 4 to 7 are computed again" in caplog.text
    chunks.fill(ALONE, squares)
    assert chunks.pending() == []
    assert read(chunks).tolist() == [[i, i * i] for i in range(10)]


def test_damaged_settings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The files know their settings: those of the same are kept, those of others are not used."""
    filled(tmp_path / "f", seed=1)
    caplog.set_level(logging.WARNING)
    for text in ("", "[]", '{"seed": 1', '{"seed": 1, "count": 10, "chunk_size": 4}'):
        (tmp_path / "f" / "settings.json").write_text(text)
        assert FeatureChunks(tmp_path / "f", {"seed": 1}, 10, 4).pending() == []
        (tmp_path / "f" / "settings.json").write_text(text)
        assert len(FeatureChunks(tmp_path / "f", {"seed": 2}, 10, 4).pending()) == 3
    assert "settings.json is damaged" in caplog.text


def test_files_are_flushed_before_they_get_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = FeatureChunks(tmp_path / "f", {}, 4, 4)
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda _: flushed.append(chunks.path(0).exists()))
    chunks.fill(ALONE, squares)
    assert flushed == [False]
    assert chunks.path(0).is_file()
