"""Shards are written when they are complete, with what was left out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bigr.data.broken import BrokenImage, TooManyBrokenError
from bigr.training.callbacks.shard_writing import ShardWriter, TokenizeProgress
from bigr.training.tokenization import Encoded, Job, TokenizeBatch


class Written:
    """A store that keeps what is written to it; it has no shard yet."""

    def __init__(self) -> None:
        self.settings = SimpleNamespace(num_images={"train": 6}, num_shards=lambda split: 2)
        self.shards: list[tuple[Any, ...]] = []

    def has(self, split: str, shard: int) -> bool:
        return (split, shard) in [found[:2] for found in self.shards]

    def write(self, *shard: Any) -> None:
        self.shards.append(shard)


def batch_of(start: int, good: list[int], *, ends_shard: bool) -> TokenizeBatch:
    images = range(start, start + 2)
    broken = [(i, BrokenImage(f"{i}.png", "cut off")) for i in images if i not in good]
    chosen = torch.tensor(good, dtype=torch.int64)
    job = Job("train", 0, start, start + 2, ends_shard)
    return TokenizeBatch(job, torch.zeros(len(good)), chosen % 3, chosen, tuple(broken))


@pytest.mark.parametrize("has_features", [False, True])
def test_batches_are_collected_until_the_shard_ends(has_features: bool) -> None:
    store: Any = Written()
    callback, trainer = ShardWriter(store, max_broken_share=0.5), None
    for batch in (batch_of(0, [0, 1], ends_shard=False), batch_of(2, [3], ends_shard=True)):
        assert not store.shards
        codes = batch.indices[:, None, None].to(torch.uint8)
        features = batch.indices[:, None].half() + 0.5 if has_features else None
        encoded = Encoded(codes, features)
        callback.write_on_batch_end(trainer, None, encoded, None, batch, 0, 0)  # type: ignore[arg-type]
    ((split, number, codes, labels, indices, broken, features),) = store.shards
    assert (split, number) == ("train", 0)
    assert np.array_equal(codes[:, 0, 0], [0, 1, 3])
    assert np.array_equal(labels, [0, 1, 0])
    assert np.array_equal(indices, [0, 1, 3])
    assert broken == [(2, BrokenImage("2.png", "cut off"))]
    if has_features:
        assert np.array_equal(features[:, 0], [0.5, 1.5, 3.5])
    else:
        assert features is None


def test_too_many_unreadable_images() -> None:
    store: Any = Written()
    callback = ShardWriter(store, max_broken_share=0.2)  # 1 of 6
    batch = batch_of(0, [], ends_shard=False)
    with pytest.raises(TooManyBrokenError, match="2 of 6"):
        callback.write_on_batch_end(None, None, torch.zeros(0), None, batch, 0, 0)  # type: ignore[arg-type]


def test_progress_counts_all_processes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    trainer: Any = SimpleNamespace(world_size=2, is_global_zero=True)
    jobs = [Job("train", 0, 0, 2, False), Job("train", 0, 2, 3, True)]
    module: Any = SimpleNamespace(jobs=lambda: jobs)
    callback = TokenizeProgress()
    callback.on_predict_start(trainer, module)
    for job in jobs:
        callback.on_predict_batch_end(trainer, module, None, SimpleNamespace(job=job), 0)  # type: ignore[arg-type]
    callback.teardown(trainer, module, "predict")
    assert any(message.startswith("6/6 images") for message in caplog.messages)
