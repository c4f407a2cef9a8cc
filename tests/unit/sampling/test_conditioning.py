"""Masks, classes and known codes before sampling, against loops over single tokens."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from typing import Any

import pytest
import torch

from bigr import SamplerConfig
from bigr.sampling.conditioning import (
    ENRICHMENT,
    INPAINTING,
    INTERPOLATION,
    INTERPOLATION_RATIOS,
    cell_places,
    class_mixtures,
    initial_state,
    null_classes,
    place_order,
    token_mask,
)
from tests.models import tiny_generator


@pytest.mark.parametrize("rule", ["any", "nearest"])
def test_token_masks(rule: Any) -> None:
    """Of each 4x4 patch, ``any`` looks at all pixels and ``nearest`` at the first one."""
    pixels = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.1
    pixels[:, 0, 0] = True
    actual = token_mask(pixels, 4, rule)
    for image in range(3):
        for token in range(16):
            row, column = 4 * (token // 4), 4 * (token % 4)
            patch = pixels[image, row : row + 4, column : column + 4]
            expected = patch.any() if rule == "any" else patch[0, 0]
            assert actual[image, token] == expected


def test_masks_that_are_refused() -> None:
    pixels = torch.zeros(2, 16, 16, dtype=torch.bool)
    pixels[0] = True
    with pytest.raises(ValueError, match=r"mask of image 1 touches no token of the 4x4 grid"):
        token_mask(pixels, 4)
    with pytest.raises(ValueError, match="mask_rule=most: it must be any or nearest"):
        token_mask(pixels, 4, "most")  # type: ignore[arg-type]


@torch.no_grad()
def test_class_mixtures() -> None:
    model = tiny_generator()
    weight = model.transformer.class_embedding.weight
    actual = class_mixtures(model, 2, 0, [0.0, 0.25, 1.0])
    expected = torch.stack([weight[0], 0.25 * weight[2] + 0.75 * weight[0], weight[2]])
    torch.testing.assert_close(actual, expected)
    assert null_classes(2, 3).tolist() == [3, 3]


def test_ratios_of_the_paper() -> None:
    expected = [0.0, 0.1, 0.2, *(0.3 + 0.02 * i for i in range(21)), 0.8, 0.9, 1.0]
    assert list(INTERPOLATION_RATIOS) == pytest.approx(expected)


def test_settings_of_the_released_applications() -> None:
    linear = SamplerConfig(guidance_scale=2.5, gumbel_temperature=0.0, mask_schedule="linear")
    inpainting, enrichment, interpolation = (
        SamplerConfig(**changes) for changes in (INPAINTING, ENRICHMENT, INTERPOLATION)
    )
    assert dataclasses.replace(linear, num_iterations=25) == inpainting
    assert dataclasses.replace(linear, num_iterations=20) == enrichment
    assert dataclasses.replace(linear, num_iterations=20, mask_schedule="cosine") == interpolation


def test_cell_places() -> None:
    """0 1 / 2 3 in every 2x2 cell."""
    places = cell_places(6)
    assert places.dtype == torch.bool
    for place in range(4):
        for token in range(36):
            row, column = token // 6 % 2, token % 6 % 2
            assert places[place, token] == (2 * row + column == place)
    with pytest.raises(ValueError, match="even grid of tokens, not 7x7"):
        cell_places(7)


def test_place_orders() -> None:
    """Every order is as likely as the others, and follows from the generator."""
    generator = torch.Generator().manual_seed(0)
    orders = [tuple(place_order(generator).tolist()) for _ in range(2400)]
    counts = collections.Counter(orders)
    assert counts.keys() == set(itertools.permutations(range(4)))
    assert 60 < min(counts.values()) <= max(counts.values()) < 150
    assert tuple(place_order(torch.Generator().manual_seed(0)).tolist()) == orders[0]


def test_initial_state() -> None:
    """Without known codes all tokens are masked; with them, masked codes are zero."""
    model = tiny_generator()
    classes = torch.tensor([1, 3])
    codes, is_masked = initial_state(model, classes, None, None)
    assert (codes.shape, is_masked.shape) == ((2, 16, 6), (2, 16))
    assert is_masked.all()
    assert codes.abs().sum() == 0
    known, wanted = torch.ones(2, 16, 6), torch.arange(32).view(2, 16) % 3 == 0
    codes, is_masked = initial_state(model, classes, known, wanted)
    assert torch.equal(is_masked, wanted)
    assert torch.equal(codes, (~wanted)[..., None].float().expand(2, 16, 6))
    assert known.min() == 1  # the caller's tensor is left alone


KNOWN, MASK = torch.zeros(2, 16, 6), torch.ones(2, 16, dtype=torch.bool)


@pytest.mark.parametrize(
    ("classes", "known", "mask", "message"),
    [
        (torch.tensor([0, 4]), None, None, r"0\.\.3 \(3 is the null class\), got \[0, 4\]"),
        (torch.tensor([[0], [1]]), None, None, "one number per image"),
        (torch.zeros(2, 31), None, None, r"shape \(batch, 32\), got \(2, 31\)"),
        (torch.tensor([0, 1]), KNOWN, None, "give both or neither"),
        (torch.tensor([0, 1]), KNOWN, MASK.float(), "must be bool"),
        (torch.tensor([0, 1]), KNOWN, MASK[:, :15], r"shape \(2, 16\)"),
        (torch.tensor([0, 1]), KNOWN[:1], MASK, "2 class_ids but 1 known_codes"),
        (torch.tensor([0, 1]), KNOWN[..., :5], MASK, r"shape \(batch, 16, 6\)"),
    ],
)
def test_input_that_does_not_fit(classes: Any, known: Any, mask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        initial_state(tiny_generator(), classes, known, mask)
