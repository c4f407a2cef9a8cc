"""Inpainting, outpainting and editing: what is kept, what is painted, what depends on what."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch

from bigr import BiGRPipeline, SamplerConfig
from bigr.sampling.conditioning import token_mask
from bigr.sampling.sampler import Progress, Sampler
from tests.pictures import noise, pixels

FAST: dict[str, Any] = {"num_iterations": 3, "num_denoise_steps": 4}


def test_inpaint_changes_the_mask_alone(pipeline: BiGRPipeline) -> None:
    """In the size of the original; other seeds paint other things."""
    picture = noise(40, 24)
    box = [10, 4, 20, 14]
    variants = pipeline.inpaint(picture, [box], num_variants=3, **FAST)
    before, inside = pixels(picture), np.zeros((24, 40), dtype=bool)
    inside[4:14, 10:20] = True
    for variant in variants:
        assert np.array_equal(pixels(variant)[~inside], before[~inside])
        assert (pixels(variant)[inside] != before[inside]).mean() > 0.5
    assert len({variant.tobytes() for variant in variants}) == 3


def test_known_tokens_are_the_reconstruction(pipeline: BiGRPipeline) -> None:
    """The codes handed to the decoder are the picture's own wherever nothing is masked."""
    seen: list[Progress] = []
    picture = noise()
    pipeline.inpaint(
        picture, [[0, 0, 4, 8]], blend="none", seed=3, on_iteration=seen.append, **FAST
    )
    codes = pipeline.encode(pipeline.load(picture), [3])
    kept = torch.tensor([False, False, True, True]).repeat(4)
    assert [progress.iteration for progress in seen] == [1, 2, 3]
    assert torch.equal(seen[-1].codes[0, kept], codes[0, kept])
    assert not seen[-1].is_masked.any()


def test_bits_of_known_tokens(pipeline: BiGRPipeline) -> None:
    """Drawn anew for each variant, or the likelier ones for all of them."""
    pictures, masks, images = [noise(seed=1), noise(seed=2)], [[[0, 0, 4, 8]]] * 2, range(2)
    squares = pipeline.load(pictures)
    rest: dict[str, Any] = {"num_variants": 2, "seed": 5, **FAST}
    drawn = pipeline.repaint(pictures, masks, [None] * 2, **rest)
    expected = pipeline.encode(squares, range(5, 9))
    assert torch.equal(torch.stack([one.known_codes for one in drawn]), expected)
    likelier = pipeline.repaint(pictures, masks, [None] * 2, known_bits="likelier", **rest)
    for index in images:
        for one in likelier[2 * index : 2 * index + 2]:
            assert torch.equal(one.known_codes, pipeline.encode(squares)[index])
        assert not torch.equal(expected[2 * index], expected[2 * index + 1])
    for method in (pipeline.inpaint, pipeline.outpaint, pipeline.edit):
        more = {"class_name": 1, "known_bits": "likelier", **FAST}
        box = [[0, 0, 4, 8]]
        assert method(pictures[0], box, **more) != method(pictures[0], box, class_name=1, **FAST)


def test_outpainting_is_inpainting_inverted(pipeline: BiGRPipeline) -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[2:6, 2:6] = True
    for blend in ("paste", "poisson", "none"):
        out = pipeline.outpaint(noise(), mask, blend=blend, seed=3, **FAST)
        inside = pipeline.inpaint(noise(), ~mask, blend=blend, seed=3, **FAST)
        assert out[0].tobytes() == inside[0].tobytes()
    default = pipeline.outpaint(noise(), blend="none", seed=3, **FAST)
    assert default[0].tobytes() == out[0].tobytes()


def test_everything_masked_is_generation(pipeline: BiGRPipeline) -> None:
    edited = pipeline.edit(noise(), [[0, 0, 8, 8]], class_name=1, blend="none", seed=4, **FAST)
    config = SamplerConfig.preset("inpaint", **FAST)
    assert edited[0].tobytes() == pipeline.generate(1, seed=4, sampler=config)[0].tobytes()


def test_class_matters_only_if_given(pipeline: BiGRPipeline) -> None:
    box = [[0, 0, 8, 4]]
    free = pipeline.inpaint(noise(), box, **FAST)[0].tobytes()
    assert pipeline.inpaint(noise(), box, guidance_scale=9.0, **FAST)[0].tobytes() == free
    edits = {pipeline.edit(noise(), box, class_name=c, **FAST)[0].tobytes() for c in range(3)}
    assert len(edits | {free}) == 4


def test_without_opencv(pipeline: BiGRPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is sampled."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(Sampler, "sample", None)
    with pytest.raises(ValueError, match="blend=poisson needs OpenCV"):
        pipeline.inpaint(noise(), [[0, 0, 4, 4]], blend="poisson")


def test_mask_rules() -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 3, 3:6] = True  # tokens of two pixels: rows 1, columns 1 and 2
    tokens = token_mask(mask, 4, "any").view(4, 4)
    assert tokens.nonzero().tolist() == [[1, 1], [1, 2]]
    with pytest.raises(ValueError, match="touches no token"):
        token_mask(mask, 4, "nearest")


def test_several_images_are_each_what_they_are_alone(pipeline: BiGRPipeline) -> None:
    """Variant j of image i has seed ``seed + i * num_variants + j``, whatever is in the batch."""
    pictures = [noise(20, 12, seed=1), noise(8, 8, seed=2)]
    masks: list[Any] = [[[6, 2, 12, 9]], [[0, 0, 4, 8]]]
    found = pipeline.repaint(pictures, masks, [1, 2], num_variants=2, seed=3, **FAST)
    assert len(found) == 4
    for index, variant in enumerate(found):
        i = index // 2
        alone = pipeline.edit(pictures[i], masks[i], class_name=i + 1, seed=3 + index, **FAST)
        assert variant.picture.tobytes() == alone[0].tobytes()


def test_what_is_known_of_a_result(pipeline: BiGRPipeline) -> None:
    """Codes, mask and decoded square belong together, and the square is what is pasted."""
    picture = noise()
    (found,) = pipeline.repaint([picture], [[[0, 0, 4, 8]]], [None], blend="none", **FAST)
    assert found.is_masked.tolist() == [True, True, False, False] * 4
    assert torch.equal(found.known_codes, pipeline.encode(pipeline.load(picture), [0])[0])
    changed = (found.codes != found.known_codes).any(dim=1)
    assert changed.any()
    assert not changed[~found.is_masked].any()
    assert torch.equal(found.square, pipeline.decode(found.codes[None])[0])
    shown = torch.from_numpy(np.array(found.picture)).permute(2, 0, 1)
    assert torch.equal(shown, (found.square * 255).round().byte())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: p.inpaint(noise(), [[0, 0, 4, 4]], mask_rule="all"),
            "mask_rule must be any or nearest, got 'all'",
        ),
        (lambda p: p.inpaint(noise(40, 8), [[0, 0, 4, 4]]), r"centre square \[16, 0, 24, 8\]"),
        (lambda p: p.outpaint(noise(), [[0, 0, 8, 8]]), "keep covers the whole image"),
        (
            lambda p: p.inpaint(noise(), [[0, 0, 4, 4]], known_bits=True),
            "known_bits must be drawn or likelier, got true",
        ),
        (
            lambda p: p.inpaint(noise(), [[0, 0, 4, 4]], blend="soft"),
            "blend must be one of paste, poisson, none, got 'soft'",
        ),
        (
            lambda p: p.inpaint(noise(), [[0, 0, 4, 4]], num_variants=0),
            "num_variants must be a positive integer, got 0",
        ),
    ],
)
def test_bad_arguments(pipeline: BiGRPipeline, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(pipeline)
