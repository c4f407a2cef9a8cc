"""Generating, interpolating and enriching, on tiny models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bigr import BiGRPipeline, SamplerConfig
from bigr.sampling.conditioning import INTERPOLATION_RATIOS, cell_groups
from bigr.sampling.sampler import Progress, Sampler
from tests.pictures import noise, pixels

FAST: dict[str, Any] = {"num_iterations": 3, "num_denoise_steps": 4}


def test_generate_is_the_samplers(pipeline: BiGRPipeline) -> None:
    pictures = pipeline.generate([0, 2], num_per_class=2, seed=7, **FAST)
    codes = Sampler(SamplerConfig(**FAST)).sample(
        pipeline.models.generator, torch.tensor([0, 0, 2, 2]), seeds=range(7, 11)
    )
    for picture, image in zip(pictures, pipeline.decode(codes), strict=True):
        expected = (image * 255).round().permute(1, 2, 0).numpy()
        assert np.array_equal(pixels(picture), expected)
    assert pipeline.generate(2, seed=10, **FAST)[0].tobytes() == pictures[3].tobytes()


def test_interpolation_ends_at_the_classes(pipeline: BiGRPipeline) -> None:
    pictures = pipeline.interpolate(0, 2, seed=5, **FAST)
    assert len(pictures) == len(INTERPOLATION_RATIOS) == 27
    assert pictures[0].tobytes() == pipeline.generate(0, seed=5, **FAST)[0].tobytes()
    assert pictures[-1].tobytes() == pipeline.generate(2, seed=5, **FAST)[0].tobytes()
    assert len({picture.tobytes() for picture in pictures}) > 3


def test_paper_ratios() -> None:
    assert list(INTERPOLATION_RATIOS) == sorted(INTERPOLATION_RATIOS)
    assert INTERPOLATION_RATIOS[3:24] == pytest.approx([0.3 + 0.02 * i for i in range(21)])


def test_cell_groups() -> None:
    """Each group has one token of every 2x2 cell; all of them have every token once."""
    groups = cell_groups(8, torch.Generator().manual_seed(0))
    assert torch.equal(groups.sum(dim=0), torch.ones(64, dtype=torch.int64))
    cells = groups.view(4, 4, 2, 4, 2).sum(dim=(2, 4))
    assert torch.equal(cells, torch.ones(4, 4, 4, dtype=torch.int64))
    assert not torch.equal(groups, cell_groups(8, torch.Generator().manual_seed(1)))
    with pytest.raises(ValueError, match="even grid"):
        cell_groups(7, torch.Generator())


def test_enrichment_resamples_one_group_a_round(pipeline: BiGRPipeline) -> None:
    seen: list[Progress] = []
    picture = noise(16, 16)
    one_round = pipeline.enrich(picture, num_rounds=1, seed=2, on_iteration=seen.append, **FAST)
    group = cell_groups(4, torch.Generator().manual_seed(2))[:1]
    small = torch.tensor(np.array(picture.reduce(2).reduce(2))).permute(2, 0, 1)[None] / 255
    enlarged = torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear")
    codes = pipeline.encode(enlarged)
    same = (seen[-1].codes == codes).all(dim=-1)[0]
    assert same[~group[0]].all()
    assert not same[group[0]].all()
    assert len(seen) == 3
    rounds = pipeline.enrich(picture, seed=2, num_variants=2, **FAST)
    assert len({one_round[0].tobytes(), *(picture.tobytes() for picture in rounds)}) == 3
    assert pipeline.enrich(picture, seed=3, **FAST)[0].tobytes() == rounds[1].tobytes()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.generate("tabby"), "no names for its classes"),
        (lambda p: p.generate(4), "has the classes 0..2"),
        (lambda p: p.generate([]), "at least one class"),
        (lambda p: p.generate(0, num_per_class=0), "num_per_class of at least 1"),
        (lambda p: p.interpolate(0, 1, ratios=[]), "at least one number"),
        (lambda p: p.generate(0, num_denoise_steps=999), "num_denoise_steps must be between"),
        (
            lambda p: p.interpolate(0, 1, ratios=[0.5, 1.5]),
            r"ratios must be a list .* number between 0 and 1.*got \[0.5, 1.5\]",
        ),
        (lambda p: p.enrich(noise(), num_rounds=0), "num_rounds must be a positive integer, got 0"),
    ],
)
def test_bad_arguments(pipeline: BiGRPipeline, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(pipeline)


def test_unknown_setting(pipeline: BiGRPipeline) -> None:
    with pytest.raises(TypeError, match="guidance: there is no such argument"):
        pipeline.generate(0, guidance=3)


def test_stream_says_what_each_image_is_of(pipeline: BiGRPipeline) -> None:
    """Classes and seeds, image by image; two processes share the batches."""
    small = BiGRPipeline(*pipeline.models, device="cpu", batch_size=2)
    expected = pipeline.generate([2, 0], num_per_class=3, seed=4, **FAST)
    parts = [
        list(small.stream([2, 0], num_per_class=3, seed=4, share=(rank, 2), **FAST))
        for rank in (0, 1)
    ]
    assert [len(part) for part in parts] == [4, 2]
    for found in parts[0] + parts[1]:
        assert found.class_id == (2, 0)[(found.seed - 4) // 3]
        assert found.picture.tobytes() == expected[found.seed - 4].tobytes()
    assert {found.seed for part in parts for found in part} == set(range(4, 10))


def test_stream_begins_with_the_first_image(pipeline: BiGRPipeline) -> None:
    """Mistakes are reported at once, and nothing is sampled before an image is asked for."""
    with pytest.raises(ValueError, match=r"has the classes 0\.\.2"):
        pipeline.stream([0, 7], **FAST)
    seen: list[Progress] = []
    found = pipeline.stream(0, on_iteration=seen.append, **FAST)
    assert seen == []
    next(found)
    assert len(seen) == 3


def test_the_null_class_has_a_number(pipeline: BiGRPipeline) -> None:
    picture = pipeline.generate(3, seed=2, guidance_scale=5.0, **FAST)[0]
    assert picture.tobytes() == pipeline.generate(3, seed=2, **FAST)[0].tobytes()  # no guidance
    codes = Sampler(SamplerConfig(**FAST)).sample(
        pipeline.models.generator, torch.tensor([3]), seeds=[2]
    )
    assert np.array_equal(
        pixels(picture), (pipeline.decode(codes)[0] * 255).round().permute(1, 2, 0).numpy()
    )


def test_the_sampler_is_reused_and_counts(pipeline: BiGRPipeline) -> None:
    pipeline.generate(0, **FAST)
    sampler, once = pipeline.sampler, pipeline.sampler.flops
    assert once > 0
    pipeline.generate(0, **FAST)
    assert pipeline.sampler is sampler
    assert sampler.flops == 2 * once
    pipeline.generate(0, guidance_scale=1.5, **FAST)
    assert pipeline.sampler is not sampler
