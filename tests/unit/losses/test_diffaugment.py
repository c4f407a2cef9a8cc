"""Augmentations undone by hand: what they may change, and that gradients pass."""

from __future__ import annotations

import pytest
import torch

from bigr.losses.diffaugment import augment


def test_translation_moves_whole_pixels() -> None:
    """Each image is moved by its own shift of at most an eighth of a side; the rest is zero."""
    images = torch.rand(64, 3, 16, 24) + 0.1
    moved = augment(images, ("translation",))
    shifts = set()
    for before, after in zip(images, moved, strict=True):
        found = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-3, 4)
            if torch.equal(
                after[:, max(0, down) : 16 + min(0, down), max(0, right) : 24 + min(0, right)],
                before[:, max(0, -down) : 16 - max(0, down), max(0, -right) : 24 - max(0, right)],
            )
        ]
        assert len(found) == 1
        down, right = found[0]
        assert (after > 0).sum() == 3 * (16 - abs(down)) * (24 - abs(right))
        shifts.add(found[0])
    assert {down for down, _ in shifts} == set(range(-2, 3))
    assert {right for _, right in shifts} == set(range(-3, 4))


def test_colour_is_an_affine_map_of_brightness() -> None:
    """The grey value of each pixel changes linearly, with a slope between 0.5 and 1.5."""
    images = torch.rand(32, 3, 8, 8)
    changed = augment(images, ("color",))
    slopes = []
    for before, after in zip(images, changed, strict=True):
        x, y = before.mean(dim=0).flatten(), after.mean(dim=0).flatten()
        slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
        torch.testing.assert_close(y, slope * (x - x.mean()) + y.mean(), rtol=1e-4, atol=1e-5)
        assert abs(y.mean() - x.mean()) <= 0.5
        slopes.append(float(slope))
    assert 0.5 <= min(slopes) < 0.7
    assert 1.3 < max(slopes) <= 1.5


@pytest.mark.parametrize("policies", [(), ("color", "translation")])
def test_gradients_pass(policies: tuple[str, ...]) -> None:
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    changed = augment(images, policies)
    assert torch.equal(changed, images) == (not policies)
    changed.sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
