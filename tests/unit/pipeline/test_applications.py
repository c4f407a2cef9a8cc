"""Interpolating and enriching, on tiny models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bigr import BiGRPipeline
from bigr.sampling.conditioning import INTERPOLATION_RATIOS, cell_places, place_order
from bigr.sampling.sampler import Progress
from tests.pictures import noise

FAST: dict[str, Any] = {"num_iterations": 3, "num_denoise_steps": 4}


def test_interpolation_goes_from_the_second_class_to_the_first(pipeline: BiGRPipeline) -> None:
    pictures = pipeline.interpolate(0, 2, seed=5, **FAST)
    greedy = {**FAST, "gumbel_temperature": 0.0}
    assert len(pictures) == len(INTERPOLATION_RATIOS) == 27
    assert pictures[0].tobytes() == pipeline.generate(2, seed=5, **greedy)[0].tobytes()
    assert pictures[-1].tobytes() == pipeline.generate(0, seed=5, **greedy)[0].tobytes()
    assert len({picture.tobytes() for picture in pictures}) > 3


def test_enrichment_hides_one_place_of_all_cells(pipeline: BiGRPipeline) -> None:
    """Each of the four places once a round, in the order of the seed; all others are known."""
    seen: list[Progress] = []
    picture = noise(16, 16)
    pipeline.enrich(
        picture, num_rounds=2, seed=2, known_bits="likelier", on_iteration=seen.append, **FAST
    )
    small = torch.tensor(np.array(picture.reduce(2).reduce(2))).permute(2, 0, 1)[None] / 255
    enlarged = torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear")
    codes, draw = pipeline.encode(enlarged), torch.Generator().manual_seed(2)
    last = iter(seen[2::3])
    for _ in range(2):
        for place in place_order(draw):
            torch.randint(2**62, (1,), generator=draw)  # the seed of this sampling
            progress = next(last)
            assert torch.equal(~progress.confidence[0].isnan(), cell_places(4)[place])
            same = (progress.codes == codes).all(dim=-1)[0]
            assert same[~cell_places(4)[place]].all()
            assert not same.all()
            codes = progress.codes
    assert len(seen) == 2 * 4 * 3
    with pytest.raises(StopIteration):
        next(last)


def test_rounds_and_variants_of_enrichment(pipeline: BiGRPipeline) -> None:
    """Variant by variant, and as each is alone, in any batch and with fewer rounds."""
    small = BiGRPipeline(*pipeline.models, device="cpu", batch_size=2)
    rounds = small.enrich(noise(), seed=2, num_variants=3, return_rounds=True, **FAST)
    assert len({picture.tobytes() for picture in rounds}) == len(rounds) == 12
    for variant in range(3):
        for number in range(4):
            alone = pipeline.enrich(noise(), seed=2 + variant, num_rounds=number + 1, **FAST)
            assert len(alone) == 1
            assert alone[0].tobytes() == rounds[4 * variant + number].tobytes()
    last = [
        picture.tobytes() for picture in pipeline.enrich(noise(), seed=2, num_variants=3, **FAST)
    ]
    assert last == [picture.tobytes() for picture in rounds[3::4]]


def test_enrichment_without_a_class_has_no_guidance(pipeline: BiGRPipeline) -> None:
    free = pipeline.enrich(noise(), **FAST)[0].tobytes()
    assert pipeline.enrich(noise(), guidance_scale=10.0, **FAST)[0].tobytes() == free
    scales = [pipeline.enrich(noise(), class_name=1, guidance_scale=s, **FAST) for s in (2, 10)]
    assert len({free, *(pictures[0].tobytes() for pictures in scales)}) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.interpolate(0, 1, ratios=[]), "at least one number"),
        (
            lambda p: p.interpolate(0, 1, ratios=[0.5, 1.5]),
            r"ratios must be a list .* number between 0 and 1.*got \[0.5, 1.5\]",
        ),
        (lambda p: p.enrich(noise(), num_rounds=0), "num_rounds must be a positive integer, got 0"),
        (lambda p: p.enrich(noise(), seed=-1), "seed must be an integer of at least 0, got -1"),
        (
            lambda p: p.enrich(noise(), known_bits="sampled"),
            "known_bits must be drawn or likelier, got 'sampled'",
        ),
    ],
)
def test_bad_arguments(pipeline: BiGRPipeline, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(pipeline)


def test_seeds_of_the_applications(pipeline: BiGRPipeline) -> None:
    """Each variant is what its own seed gives; an interpolation has a single seed."""
    calls: list[Any] = [
        lambda **more: pipeline.enrich(noise(), num_rounds=1, **more, **FAST),
        lambda **more: pipeline.inpaint(noise(), [[0, 0, 4, 8]], **more, **FAST),
        lambda **more: pipeline.outpaint(noise(), **more, **FAST),
        lambda **more: pipeline.edit(noise(), [[0, 0, 4, 8]], class_name=1, **more, **FAST),
    ]
    for call in calls:
        found = call(num_variants=2, seeds=[9, 4])
        alone = [call(seed=9)[0], call(seed=4)[0]]
        assert [p.tobytes() for p in found] == [p.tobytes() for p in alone]
    generator = torch.Generator().manual_seed(5)
    (seed,) = torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(5)).tolist()
    mixed = pipeline.interpolate(0, 2, ratios=[0.2, 0.6], generator=generator, **FAST)
    expected = pipeline.interpolate(0, 2, ratios=[0.2, 0.6], seed=seed, **FAST)
    assert [p.tobytes() for p in mixed] == [p.tobytes() for p in expected]
    with pytest.raises(ValueError, match="1 images need 1 seeds, got 2"):
        pipeline.interpolate(0, 2, seeds=[1, 2], **FAST)


def test_progress_bar_of_the_applications(
    pipeline: BiGRPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only if it is turned on: as many steps as there are iterations of batches."""
    pipeline.enrich(noise(), num_rounds=2, **FAST)
    assert capsys.readouterr().err == ""
    pipeline.set_progress_bar_config(disable=False)
    pipeline.enrich(noise(), num_rounds=2, **FAST)
    assert "24/24" in capsys.readouterr().err  # 2 rounds, 4 places, 3 iterations
    pipeline.inpaint(noise(), [[0, 0, 4, 8]], **FAST)
    assert "3/3" in capsys.readouterr().err
