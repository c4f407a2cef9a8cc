"""The order of tokenization, and its random bits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bigr.training.data.image_data import DigitsDataModule
from bigr.training.tokenization import check_tokenizable, plan_jobs
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


def test_only_data_modules_of_images_in_order_can_be_tokenized() -> None:
    check_tokenizable(DigitsDataModule())
    with pytest.raises(ValueError, match=r"^PairsDataModule cannot be tokenized: .* derive"):
        check_tokenizable(PairsDataModule())
