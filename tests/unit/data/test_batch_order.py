"""Order of the samples."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bigr.data.batch_order import ResumableBatchSampler


def take(sampler: ResumableBatchSampler, count: int) -> list[list[int]]:
    """Batches over as many epochs as it takes."""
    stream = itertools.chain.from_iterable(iter(sampler) for _ in itertools.count())
    return list(itertools.islice(stream, count))


def test_every_sample_at_most_once_an_epoch() -> None:
    sampler = ResumableBatchSampler(23, 5, seed=1)
    first, second = (list(itertools.chain(*sampler)) for _ in range(2))
    assert len(sampler) == 4
    assert len(set(first)) == len(set(second)) == 20
    assert set(first) < set(range(23))
    assert first != second


@pytest.mark.parametrize("stop", range(13))
def test_resumed_anywhere_the_order_goes_on(stop: int) -> None:
    expected = take(ResumableBatchSampler(23, 5, seed=1), 13)
    resumed = ResumableBatchSampler(23, 5, seed=1)
    resumed.consumed = stop
    assert take(resumed, 13 - stop) == expected[stop:]


def test_processes_share_each_batch() -> None:
    alone = take(ResumableBatchSampler(23, 6, seed=1), 6)
    shares = [
        take(ResumableBatchSampler(23, 3, seed=1, rank=rank, num_ranks=2), 6) for rank in (0, 1)
    ]
    for batch, first, second in zip(alone, *shares, strict=True):
        assert sorted(batch) == sorted(first + second)


def test_order_depends_on_the_seed() -> None:
    assert take(ResumableBatchSampler(23, 5, seed=1), 4) != take(
        ResumableBatchSampler(23, 5, seed=2), 4
    )


def test_too_little_data_is_refused() -> None:
    with pytest.raises(ValueError, match=r"7 samples do not fill one batch of 4 on each of 2"):
        ResumableBatchSampler(7, 4, seed=0, num_ranks=2)


def test_a_view_of_each_sample() -> None:
    sampler = ResumableBatchSampler(200, 50, seed=1, num_views=4)
    first, second = (list(itertools.chain(*sampler)) for _ in range(2))
    for epoch in (first, second):
        assert sorted(index // 4 for index in epoch) == list(range(200))
        assert set(np.bincount([index % 4 for index in epoch], minlength=4) > 25) == {True}
    views = [{index // 4: index % 4 for index in epoch} for epoch in (first, second)]
    changed = sum(views[0][sample] != views[1][sample] for sample in range(200))
    assert 120 < changed < 180  # three of four


def test_blocks_are_read_nearby() -> None:
    """100 blocks of 10: every sample once, mixed within 16 blocks at a time."""
    blocks = np.arange(0, 1000, 10)
    sampler = ResumableBatchSampler(1000, 10, seed=1, blocks=blocks)
    order = list(itertools.chain(*sampler))
    assert sorted(order) == list(range(1000))
    for start in range(0, 960, 160):
        window = order[start : start + 160]
        assert len({index // 10 for index in window}) == 16
        assert len({index // 10 for index in window[:16]}) > 6  # not block after block
    assert order[:160] != sorted(order[:160])
    assert [index // 10 for index in order[:160]] != list(range(16))


def test_resumed_in_mid_epoch_the_views_are_the_same() -> None:
    whole = take(ResumableBatchSampler(100, 10, seed=3, num_views=2), 25)
    resumed = ResumableBatchSampler(100, 10, seed=3, num_views=2)
    resumed.consumed = 13
    assert take(resumed, 12) == whole[13:]
