"""Order of the samples."""

from __future__ import annotations

import itertools

import pytest

from bigr.data.batches import ResumableBatchSampler


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
    with pytest.raises(ValueError, match=r"7 samples don't fill one batch of 4 on each of 2"):
        ResumableBatchSampler(7, 4, seed=0, num_ranks=2)
