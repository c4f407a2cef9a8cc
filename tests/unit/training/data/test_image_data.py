"""Data modules of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bigr.data.broken import BrokenImage, TooManyBrokenError
from bigr.training.data.batch import Batch
from bigr.training.data.image_data import DigitsDataModule, ImageNetDataModule


def digits(**settings: Any) -> DigitsDataModule:
    data = DigitsDataModule(**settings)
    data.setup("fit")
    return data


def test_digits_are_seen_once_an_epoch() -> None:
    data = digits(batch_size=100, image_size=8)
    assert data.provides == "images"
    assert (data.num_images("train"), data.num_images("val")) == (1437, 360)
    batches = list(data.train_dataloader())
    samples = [index for i in range(14) for index in data.describe_batch(i)["samples"]]
    assert [len(batch.labels) for batch in batches[:14]] == [100] * 14
    assert len(set(samples)) == 1400
    assert sum(len(batch.labels) for batch in data.val_dataloader()) == 360


def test_bytes_become_numbers_and_nothing_is_mirrored_outside_training() -> None:
    data = digits(flip=True)
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 2, 2)
    batch = data.on_after_batch_transfer(Batch(torch.zeros(1), images=pixels), 0)
    assert batch.images is not None
    assert batch.images[0, 0].tolist() == [[0.0, 1.0], [0.0, 1.0]]


def test_too_many_unreadable_images() -> None:
    data = digits(max_broken_share=1.5 / (1437 + 360))
    broken = [BrokenImage(f"{n}.png", "not an image") for n in range(2)]
    empty = Batch(torch.zeros(1))
    for _ in range(3):  # the same image counts once
        assert data.on_before_batch_transfer(empty._replace(broken=(broken[0],)), 0).broken == ()
    with pytest.raises(TooManyBrokenError):
        data.on_before_batch_transfer(empty._replace(broken=(broken[1],)), 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 3}, r"DigitsDataModule\.num_classes must be 10, got 3"),
        ({"batch_size": 0}, r"batch_size must be a positive integer, got 0"),
        ({"max_broken_share": 2.0}, r"max_broken_share must be a number between 0 and 1, got 2"),
        ({"num_workers": -1}, r"num_workers must be an integer of at least 0, got -1"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DigitsDataModule(**settings)


def test_unknown_decoder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"decoder must be torchvision or pil, got 'opencv'"):
        ImageNetDataModule(
            root=str(tmp_path),
            image_size=8,
            batch_size=2,
            decoder="opencv",  # type: ignore[arg-type]
        )
