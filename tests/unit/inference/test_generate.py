"""Batches of images: the same in any size, halved where memory doesn't suffice."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from bigr.inference.generate import Models, decode, generate
from bigr.sampling.sampler import Sampler
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


def test_out_of_memory(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Halved once or twice, with one warning each; the images and the progress are the same."""
    classes = torch.arange(10) % 3
    expected = generate(models(), SETTINGS, classes)
    sample, sizes = Sampler.sample, []

    def limited(self: Sampler, model: object, class_ids: Tensor, **more: object) -> Tensor:
        sizes.append(len(class_ids))
        if len(class_ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sample(self, model, class_ids, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Sampler, "sample", limited)
    done: list[int] = []
    with caplog.at_level(logging.WARNING):
        images = generate(models(), SETTINGS, classes, batch_size=8, on_batch=done.append)
    assert torch.equal(images, expected)
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    assert sum(done) == 10
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory: going on with batches of 4",
        "out of memory: going on with batches of 2",
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
    seen = []
    images = generate(
        ours,
        SETTINGS,
        torch.tensor([1]),
        execution=ExecutionConfig(precision="bfloat16"),
        on_codes=seen.append,
    )
    assert torch.equal(images, decode(ours.autoencoder, seen[0], 1, torch.bfloat16))
    assert not torch.equal(images, decode(ours.autoencoder, seen[0], 1))
