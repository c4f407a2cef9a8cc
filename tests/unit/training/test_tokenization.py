"""The order of tokenization, and its random bits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bigr.data.codes_writer import StoreWriter
from bigr.training.data.image_data import DigitsDataModule
from bigr.training.tokenization import (
    Job,
    TokenizeBatch,
    TokenizeModule,
    check_tokenizable,
    plan_jobs,
)
from tests.codes_stores import SETTINGS
from tests.models import tiny_autoencoder
from tests.tiny_training import PairsDataModule


def writer_of(shard_size: int, done: set[tuple[str, int]], **num_images: int) -> Any:
    settings = SimpleNamespace(
        shard_size=shard_size,
        num_images=num_images,
        num_shards=lambda split: -(-num_images[split] // shard_size),
    )
    return SimpleNamespace(settings=settings, has=lambda *shard: shard in done)


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_each_image_belongs_to_one_process(num_ranks: int) -> None:
    writer = writer_of(5, set(), train=13, val=4)
    images: list[tuple[str, int]] = []
    for rank in range(num_ranks):
        for job in plan_jobs(writer, 2, rank=rank, num_ranks=num_ranks):
            assert 0 < job.stop - job.start <= 2
            assert job.start // 5 == (job.stop - 1) // 5 == job.shard, "within one shard"
            images += [(job.split, image) for image in range(job.start, job.stop)]
    assert len(images) == len(set(images))
    assert set(images) == {("train", i) for i in range(13)} | {("val", i) for i in range(4)}


def test_finished_shards_are_skipped_and_the_last_batch_ends_a_shard() -> None:
    jobs = plan_jobs(writer_of(5, {("train", 0), ("train", 2)}, train=13), 2)
    assert [(job.start, job.stop, job.ends_shard) for job in jobs] == [
        (5, 7, False),
        (7, 9, False),
        (9, 10, True),
    ]


def test_the_batches_of_a_shard_do_not_depend_on_the_number_of_processes() -> None:
    alone = plan_jobs(writer_of(5, set(), train=13), 3)
    shared = [
        job
        for rank in range(2)
        for job in plan_jobs(writer_of(5, set(), train=13), 3, rank=rank, num_ranks=2)
    ]
    assert sorted(alone) == sorted(shared)


class MeanColours:
    """The mean colours of the tokens of 2x2 pixels, in a loop."""

    dim = 3
    identity = "mean colours"

    def to(self, device: torch.device) -> MeanColours:
        return self

    def __call__(self, images: Tensor, side: int) -> Tensor:
        assert side == 4
        tokens = [(y, x) for y in range(0, 8, 2) for x in range(0, 8, 2)]
        return torch.stack([images[..., y : y + 2, x : x + 2].mean((2, 3)) for y, x in tokens], 1)


def test_features_of_every_view_are_computed(tmp_path: Path) -> None:
    """Beside the same codes as without features; the views have other features."""
    settings = dataclasses.replace(SETTINGS, feature_dim=3, feature_encoder=MeanColours.identity)
    images = torch.randint(256, (3, 2, 3, 8, 8), dtype=torch.uint8)
    batch = TokenizeBatch(
        Job("val", 0, 0, 3, True), images, torch.zeros(3).long(), torch.arange(3), ()
    )
    encoded = [
        TokenizeModule(
            tiny_autoencoder(), StoreWriter(tmp_path, settings), {}, batch_size=3, encoder=encoder
        ).predict_step(batch, 0)
        for encoder in (None, MeanColours())
    ]
    assert torch.equal(encoded[0].codes, encoded[1].codes)
    assert encoded[0].features is None
    features = encoded[1].features
    assert features is not None
    assert (features.shape, features.dtype) == ((3, 2, 16, 3), torch.float16)
    for image in range(3):
        for view in range(2):
            pixels = images[image, view].double() / 255
            for token in range(16):
                y, x = 2 * (token // 4), 2 * (token % 4)
                expected = pixels[:, y : y + 2, x : x + 2].mean((1, 2))
                torch.testing.assert_close(
                    features[image, view, token].double(), expected, rtol=0, atol=1e-3
                )


def test_only_data_modules_of_images_in_order_can_be_tokenized() -> None:
    check_tokenizable(DigitsDataModule())
    with pytest.raises(ValueError, match=r"^PairsDataModule cannot be tokenized: .* derive"):
        check_tokenizable(PairsDataModule())
