"""The generation loop: batches, shares of processes, and out-of-memory errors change no image."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from bigr.inference.generate import Models, class_labels, decode, generate, generate_batches
from bigr.sampling.sampler import Progress, Sampler
from bigr.sampling.sampler_config import ExecutionConfig, SamplerConfig
from tests.models import tiny_autoencoder, tiny_generator

SETTINGS = SamplerConfig(num_iterations=3, num_denoise_steps=4)


def models() -> Models:
    return Models(tiny_generator(), tiny_autoencoder())


def test_batches_do_not_matter() -> None:
    classes = torch.arange(10) % 3
    expected = generate(models(), SETTINGS, classes, seed=5, batch_size=10)
    assert expected.std() > 0.05
    for size in (1, 3, 64):
        assert torch.equal(generate(models(), SETTINGS, classes, seed=5, batch_size=size), expected)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares(count: int) -> None:
    """Together the processes make every image once, each the one that a single process makes."""
    classes = torch.arange(11) % 3
    expected = generate(models(), SETTINGS, classes, seed=2)
    found = {}
    for rank in range(count):
        for batch in generate_batches(
            models(), Sampler(SETTINGS), classes, seed=2, batch_size=2, share=(rank, count)
        ):
            assert batch.indices.start // 2 % count == rank
            assert batch.codes.shape == (len(batch.indices), 16, 6)
            assert not set(batch.indices) & found.keys()
            found.update(zip(batch.indices, batch.images, strict=True))
    assert sorted(found) == list(range(11))
    assert torch.equal(torch.stack([found[index] for index in range(11)]), expected)


def test_seeds_and_known_codes() -> None:
    """Image i has ``seeds[i]``, and known codes are kept where nothing is masked."""
    classes = torch.tensor([0, 1, 2, 0])
    known = torch.randint(2, (4, 16, 6), generator=torch.Generator().manual_seed(0)).float()
    is_masked = torch.arange(16).expand(4, 16) < 6
    batches = list(
        generate_batches(
            models(), Sampler(SETTINGS), classes, seeds=[9, 9, 1, 9], batch_size=3,
            known_codes=known, is_masked=is_masked,
        )
    )  # fmt: skip
    assert [batch.indices for batch in batches] == [range(3), range(3, 4)]
    codes = torch.cat([batch.codes for batch in batches])
    assert torch.equal(codes[:, 6:], known[:, 6:])
    alone = Sampler(SETTINGS).sample(
        models().generator, classes[2:3], seeds=[1], known_codes=known[2:3], is_masked=is_masked[:1]
    )
    assert torch.equal(codes[2:3], alone)


def test_the_caller_sees_each_batch_before_the_next_is_sampled() -> None:
    states: list[Progress] = []
    batches = generate_batches(
        models(), Sampler(SETTINGS), torch.arange(4) % 3, batch_size=2, on_iteration=states.append
    )
    next(batches)
    assert [state.iteration for state in states] == [1, 2, 3]
    next(batches)
    assert [state.iteration for state in states] == [1, 2, 3] * 2
    assert list(batches) == []


def test_labels() -> None:
    labels = class_labels(1003, 10, "balanced", seed=1)
    counts = torch.bincount(labels)
    assert counts.max() - counts.min() <= 1
    assert torch.bincount(labels[:500]).min() > 20  # the first images are a fair sample
    for count in (10, 15, 1000):
        ordered = class_labels(count, 10, "sorted")
        counts = torch.bincount(ordered, minlength=10)
        assert len(ordered) == count
        assert counts.max() - counts.min() <= 1
        assert torch.equal(ordered, class_labels(count, 10, "balanced").sort().values)
    assert not torch.equal(labels, class_labels(1003, 10, "balanced", seed=2))
    assert torch.bincount(class_labels(1000, 10, "random", seed=1)).max() > 105


def test_out_of_memory(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The batch is halved twice, with one warning each, and the images stay the same."""
    classes = torch.arange(10) % 3
    expected = generate(models(), SETTINGS, classes)
    sample, sizes = Sampler.sample, []

    def limited(self: Sampler, model: object, class_ids: Tensor, **more: object) -> Tensor:
        sizes.append(len(class_ids))
        if len(class_ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sample(self, model, class_ids, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Sampler, "sample", limited)
    with caplog.at_level(logging.WARNING):
        batches = list(generate_batches(models(), Sampler(SETTINGS), classes, batch_size=8))
    assert torch.equal(torch.cat([batch.images for batch in batches]), expected)
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    assert [batch.indices.start for batch in batches] == [0, 2, 4, 6, 8]
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory: continuing with batches of 4",
        "out of memory: continuing with batches of 2",
    ]


def test_out_of_memory_of_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Sampler, "sample", never)
    with pytest.raises(torch.OutOfMemoryError):
        generate(models(), SETTINGS, torch.tensor([0]))


def test_decoding_in_bfloat16() -> None:
    """Where the sampler's products are bfloat16, so are the decoder's: a bit off, not more."""
    ours = models()
    codes = torch.randint(2, (4, 16, 6), generator=torch.Generator().manual_seed(0)).float()
    exact = decode(ours.autoencoder, codes, 4)
    rounded = decode(ours.autoencoder, codes, 4, torch.bfloat16)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().mean() < 0.005
    sampler = Sampler(SETTINGS, ExecutionConfig(precision="bfloat16"))
    (batch,) = generate_batches(ours, sampler, torch.tensor([1]))
    assert torch.equal(batch.images, decode(ours.autoencoder, batch.codes, 1, torch.bfloat16))
    assert not torch.equal(batch.images, decode(ours.autoencoder, batch.codes, 1))
