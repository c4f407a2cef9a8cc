"""Data modules of images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bigr.data.broken import BrokenImage, TooManyBrokenError
from bigr.training.data.batch import Batch
from bigr.training.data.image_data import DigitsDataModule, ImageNetDataModule
from tests.image_files import (
    encoded,
    photograph,
    write_arrow,
    write_folders,
    write_listed,
    write_shards,
)


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


PICTURES = {
    (owner, f"{owner}_{n}.png"): encoded(photograph(16, 16, shift=40 * n + k), "PNG")
    for k, owner in enumerate("abc")
    for n in range(6)
}


def write_dataset(kind: str, root: Path) -> None:
    if kind == "folders":
        write_folders(root, ".", PICTURES)
    elif kind in ("csv", "json"):
        write_listed(root, PICTURES, kind)
    elif kind == "arrow":
        write_arrow(root, PICTURES)
    else:
        write_shards(f"{root}/{{}}.tar", PICTURES)


def images(root: Path, **settings: Any) -> ImageNetDataModule:
    settings = {"num_classes": 3, "image_size": 8, "batch_size": 4, "num_workers": 0, **settings}
    data = ImageNetDataModule(root=str(root), **settings)
    data.prepare_data()
    data.setup("fit")
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, accumulate_grad_batches=1)  # type: ignore[assignment]
    return data


def test_every_format_gives_the_same_batches_and_resumes_in_their_middle(tmp_path: Path) -> None:
    expected: list[Batch] = []
    for kind in ("folders", "csv", "json", "arrow", "shards"):
        write_dataset(kind, tmp_path / kind)
        data = images(tmp_path / kind, val_share=0.2)
        found = [*data.train_dataloader(), *data.val_dataloader()]
        expected = expected or found
        assert data.classes == ["a", "b", "c"]
        assert (data.num_images("train"), data.num_images("val")) == (15, 3)
        # A run that was stopped after two batches.
        rest = images(tmp_path / kind, val_share=0.2)
        rest.load_state_dict({"consumed": 2, "accumulated": 1, "images": 4})
        for ours, theirs in (
            *zip(found, expected, strict=True),
            *zip(rest.train_dataloader(), expected[2:3], strict=True),
        ):
            assert torch.equal(ours.images, theirs.images), kind  # type: ignore[arg-type]
            assert torch.equal(ours.labels, theirs.labels), kind


def test_a_dataset_is_downloaded_only_if_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(dataset: str, root: Path) -> None:
        assert dataset == "CIFAR10"
        write_dataset("folders", root)

    monkeypatch.setattr("bigr.training.data.image_data.download", fetch)
    with pytest.raises(ValueError, match=r"no images .* data\.download=true downloads CIFAR10"):
        images(tmp_path, dataset="CIFAR10")
    assert images(tmp_path, dataset="CIFAR10", download=True).num_images("train") == 15
    with pytest.raises(
        ValueError, match=r"download=true needs data\.dataset, such as data=cifar10"
    ):
        images(tmp_path, download=True)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_impossible_shares_for_validation(tmp_path: Path, share: float) -> None:
    with pytest.raises(ValueError, match=r"val_share must be a number"):
        images(tmp_path, val_share=share)
