"""The adversarial loss, against formulas written out in NumPy and float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bigr.losses.adversarial import adaptive_weight, autoencoder_loss, discriminator_loss
from bigr.losses.diffaugment import augment


def test_hinge_losses() -> None:
    real, fake = torch.randn(3, 1, 5, 5) * 2, torch.randn(3, 1, 5, 5) * 2
    x, y = real.double().numpy(), fake.double().numpy()
    expected = (np.maximum(0, 1 - x).mean() + np.maximum(0, 1 + y).mean()) / 2
    assert discriminator_loss(real, fake).item() == pytest.approx(expected, rel=1e-6)
    assert autoencoder_loss(fake).item() == pytest.approx(-y.mean(), rel=1e-5)


@pytest.mark.parametrize(("scale", "clamped"), [(1e-3, False), (50.0, True), (0.0, False)])
def test_adaptive_weight(scale: float, clamped: bool) -> None:
    """A linear last layer: both gradients can be written down."""
    hidden = torch.randn(4, 6, dtype=torch.float64)
    weight = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    target = torch.randn(4, 3, dtype=torch.float64)
    critic = torch.randn(3, dtype=torch.float64)
    y = hidden @ weight.T
    reconstruction = scale * F.mse_loss(y, target)
    gan = -(y @ critic).mean()
    actual = adaptive_weight(reconstruction, gan, weight)
    g_reconstruction = scale * 2 / y.numel() * (y - target).T @ hidden
    g_gan = -torch.outer(critic, hidden.mean(0))
    expected = g_reconstruction.norm() / (g_gan.norm() + 1e-4)
    assert bool(expected > 1) == clamped
    assert actual.item() == pytest.approx(min(1.0, expected.item()), rel=1e-5)
    assert not actual.requires_grad
    (reconstruction + actual * gan).backward()  # the graph is still there
    assert weight.grad is not None
    expected_grad = g_reconstruction + actual.double() * g_gan
    assert torch.allclose(weight.grad, expected_grad, rtol=1e-4, atol=1e-9)


def test_augmentation_is_a_shift_of_whole_pixels() -> None:
    images = torch.rand(64, 3, 16, 24) + 0.1
    shifted = augment(images, ("translation",))
    found = set()
    for before, after in zip(images, shifted, strict=True):
        matches = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-3, 4)
            if torch.equal(after, shift(before, dy, dx))
        ]
        assert len(matches) == 1
        found.add(matches[0])
    assert len(found) > 20
    assert {dy for dy, _ in found} == set(range(-2, 3))
    assert {dx for _, dx in found} == set(range(-3, 4))


def shift(image: torch.Tensor, dy: int, dx: int) -> torch.Tensor:
    result = torch.zeros_like(image)
    _, height, width = image.shape
    for row in range(max(0, -dy), min(height, height - dy)):
        for column in range(max(0, -dx), min(width, width - dx)):
            result[:, row, column] = image[:, row + dy, column + dx]
    return result


def test_colour_keeps_what_it_should() -> None:
    """A grey image stays grey; the mean moves by at most a half, the spread by 0.5 to 1.5."""
    grey = torch.rand(200, 1, 8, 8).expand(-1, 3, -1, -1)
    changed = augment(grey, ("color",))
    assert torch.allclose(changed[:, 0], changed[:, 2], atol=1e-6)
    moved = (changed - grey).mean(dim=(1, 2, 3))
    assert -0.5 <= moved.min() < -0.4 < 0.4 < moved.max() <= 0.5
    spread = changed.std(dim=(1, 2, 3)) / grey.std(dim=(1, 2, 3))
    assert 0.5 <= spread.min() < 0.6 < 1.4 < spread.max() <= 1.5
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(200, -1, 4, 4)
    saturation = augment(red, ("color",))
    assert ((saturation[:, 0] - saturation[:, 1]).amax(dim=(1, 2)) > 1.2).any()


def test_gradients_flow_through_augmentation() -> None:
    images = torch.rand(4, 3, 16, 16, requires_grad=True)
    augment(images, ("color", "translation")).square().sum().backward()
    assert images.grad is not None
    assert (images.grad != 0).float().mean() > 0.6
    assert augment(images, ()) is images
