"""The models of a pipeline, their device and precision, and images to codes and back."""

from __future__ import annotations

import pytest
import torch

from bigr import BiGRPipeline, ExecutionConfig
from bigr.models.codes import grid_to_tokens
from tests.pictures import noise, pixels


def test_reconstruct_and_features(pipeline: BiGRPipeline) -> None:
    pictures = [noise(seed=0), noise(seed=1)]
    images = pipeline.load(pictures)
    model = pipeline.models
    codes = model.autoencoder.encode(images).gt(0.5).float()
    expected = model.autoencoder.decode(codes).clamp(0, 1)
    for picture, image in zip(pipeline.reconstruct(pictures), expected, strict=True):
        assert abs(pixels(picture) - (image * 255).permute(1, 2, 0).detach().numpy()).max() < 1.01
    features = pipeline.features(pictures, layer=-1)
    null = torch.full((2,), model.generator.config.null_class)
    direct = model.generator.features(grid_to_tokens(codes), null, -1)
    assert torch.allclose(features, direct, atol=1e-5)


def test_batches_do_not_matter(pipeline: BiGRPipeline) -> None:
    pictures = [noise(seed=seed) for seed in range(5)]
    small = BiGRPipeline(*pipeline.models, device="cpu", batch_size=2)
    images = pipeline.load(pictures)
    assert torch.equal(small.encode(images), pipeline.encode(images))
    assert torch.equal(small.encode(images)[3:4], pipeline.encode(images[3:4]))
    assert torch.allclose(small.features(pictures, 0), pipeline.features(pictures, 0), atol=1e-4)
    for method in (small.reconstruct, pipeline.reconstruct):
        expected = [pipeline.reconstruct(picture)[0].tobytes() for picture in pictures]
        assert [picture.tobytes() for picture in method(pictures)] == expected


def test_drawn_bits(pipeline: BiGRPipeline) -> None:
    """Bernoulli(p) from the seed, as the B-AE's own draws; in any batch, and of any image."""
    images = pipeline.load([noise(seed=0), noise(seed=1)])
    with torch.no_grad():
        probs = grid_to_tokens(pipeline.models.autoencoder.encode(images))
    count = 2000
    codes = pipeline.encode(images, range(2 * count))
    means = codes.unflatten(0, (2, count)).mean(dim=1)
    error = (probs * (1 - probs) / count).sqrt()
    assert ((probs > 0.1) & (probs < 0.9)).sum() > 50
    assert ((means - probs).abs() <= 5 * error + 1e-6).all()
    small = BiGRPipeline(*pipeline.models, device="cpu", batch_size=1)
    assert torch.equal(small.encode(images[1:], [count + 3]), codes[count + 3 : count + 4])
    assert torch.equal(pipeline.encode(images), (probs > 0.5).float())
    with pytest.raises(ValueError, match="seeds must lie in"):
        pipeline.encode(images, [0, -1])


def test_moving_to_a_device_and_a_type(pipeline: BiGRPipeline) -> None:
    """In place, in any order of the arguments; the precision is that of ``ExecutionConfig``."""
    options = {"num_iterations": 3, "num_denoise_steps": 4}
    exact = pipeline.generate([0, 1], **options)[0].tobytes()
    assert (pipeline.device, pipeline.dtype) == (torch.device("cpu"), torch.float32)
    assert pipeline.to("cpu") is pipeline
    assert pipeline.to(torch.bfloat16, "cpu").dtype == torch.bfloat16
    assert pipeline.to(device=torch.device("cpu"), dtype=torch.float16).dtype == torch.bfloat16
    rounded = BiGRPipeline(
        *pipeline.models, device="cpu", execution=ExecutionConfig(precision="bfloat16")
    )
    found = pipeline.generate([0, 1], **options)
    assert [p.tobytes() for p in found] == [
        p.tobytes() for p in rounded.generate([0, 1], **options)
    ]
    assert pipeline.to(torch.float32).generate([0, 1], **options)[0].tobytes() == exact


def test_a_device_or_type_that_cannot_be_used_changes_nothing(pipeline: BiGRPipeline) -> None:
    with pytest.raises(ValueError, match=r"dtype=torch\.float64: a pipeline computes in one of"):
        pipeline.to("cpu", torch.float64)
    with pytest.raises(ValueError, match="device=tpu cannot be used here"):
        pipeline.to("tpu", torch.bfloat16)
    assert (pipeline.device, pipeline.dtype) == (torch.device("cpu"), torch.float32)


def test_all_weights_move(pipeline: BiGRPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a device that every machine has, on which nothing can be computed."""
    monkeypatch.setattr("bigr.pipeline.base.pick_device", torch.device)
    assert pipeline.to("meta").device == torch.device("meta")
    for model in pipeline.models:
        assert {weight.device.type for weight in model.parameters()} == {"meta"}


def test_repr(pipeline: BiGRPipeline) -> None:
    """What somebody who has just loaded a model wants to know."""
    count = sum(weight.numel() for weight in pipeline.models.generator.parameters())
    names = ["ant", "bee", "cat"]
    shown = repr(BiGRPipeline(*pipeline.models, class_names=names, device="cpu"))
    for part in (
        f"{count / 1e6:.3g} M parameters, 3 classes (ant, …, cat)",
        "8x8 pixels from 4x4 tokens of 6 bits",
        "SamplerConfig(guidance_scale=2.5",
        "cpu, torch.float32",
    ):
        assert part in shown
    assert "3 classes," in repr(pipeline)
