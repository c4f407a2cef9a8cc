"""Images of references: read piece by piece, the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bigr.data.digits import LabelledImages
from bigr.data.image_dataset import MemoryImages
from bigr.evaluation.reference_images import ArchivedImages, DatasetImages


@pytest.fixture
def pixels() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (11, 6, 5, 3), dtype=np.uint8)


def test_archive(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> None:
    """In any order, although the file is read as a stream."""
    np.savez(tmp_path / "a.npz", mu=np.zeros(3), arr_0=pixels)
    images = ArchivedImages(tmp_path / "a.npz")
    assert len(images) == 11
    assert images.shape == (11, 6, 5, 3)
    for chosen in (range(4, 9), range(0, 1), range(10, 11), range(11)):
        batch = images.batch(chosen)
        assert batch.is_contiguous()
        expected = pixels[chosen.start : chosen.stop].transpose(0, 3, 1, 2)
        assert np.array_equal(batch.numpy(), expected)
    np.savez(tmp_path / "b.npz", arr_0=pixels[:, ::-1])
    assert ArchivedImages(tmp_path / "b.npz").fingerprint() != images.fingerprint()


@pytest.mark.parametrize("bad", [np.zeros((2, 4, 4, 3)), np.zeros((2, 4, 4), np.uint8)])
def test_arrays_that_are_no_images(tmp_path: Path, bad: np.ndarray[Any, Any]) -> None:
    np.savez(tmp_path / "a.npz", arr_0=bad)
    with pytest.raises(ValueError, match=r"not images \(n, H, W, 3\) of uint8"):
        ArchivedImages(tmp_path / "a.npz")


def test_dataset(pixels: np.ndarray[Any, Any]) -> None:
    """Floats are rounded to the bytes that they came from."""
    floats = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    labelled = LabelledImages(floats, torch.zeros(11, dtype=torch.long))
    images = DatasetImages(MemoryImages(labelled, "test"))
    assert len(images) == 11
    batch = images.batch(range(2, 5))
    assert batch.dtype == torch.uint8
    assert np.array_equal(batch.numpy(), pixels[2:5].transpose(0, 3, 1, 2))
