"""The classifier of a user's own images: it learns, repeats itself, and can be restored."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bigr.metrics.own_network import OwnNetwork, small_images


def striped(count: int) -> tuple[Tensor, Tensor]:
    """Noisy images with stripes in one of two directions, (n, 3, 40, 40), and the directions."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (count,), generator=generator)
    wave = (torch.arange(40) // 4 % 2 * 120).float()
    images = torch.where(labels.bool()[:, None, None], wave[:, None], wave).expand(3, -1, 40, 40)
    noise = 40 * torch.randn(count, 3, 40, 40, generator=generator)
    return (images.transpose(0, 1) + noise + 60).clamp(0, 255).byte(), labels


def test_it_learns() -> None:
    images, labels = striped(200)
    network = OwnNetwork(2)
    assert math.isnan(network.accuracy)
    network.fit(small_images(images), labels)
    assert network.accuracy > 0.95
    features = network(images)
    assert features.pool.shape == (200, 128)
    assert features.logits is not None
    assert (features.logits.argmax(1) == labels).float().mean() > 0.95
    again = OwnNetwork(2)
    again.fit(small_images(images), labels)
    assert again.identity == network.identity
    restored = OwnNetwork(2, seed=1)
    assert restored.identity != network.identity
    restored.restore(network.arrays())
    assert restored.accuracy == network.accuracy
    assert torch.equal(restored(images).pool, features.pool)


def test_the_accuracy_is_that_of_images_it_has_not_seen() -> None:
    """Labels without meaning can be learned by heart, but not predicted."""
    images, labels = striped(200)
    network = OwnNetwork(2)
    others = torch.randint(2, labels.shape, generator=torch.Generator().manual_seed(1))
    network.fit(small_images(images), others)
    assert network.accuracy < 0.75


def test_the_accuracy_on_given_images() -> None:
    """A quarter of the images that decide the accuracy has a wrong label."""
    images, labels = striped(240)
    small = small_images(images)
    wrong = torch.where(torch.arange(80) % 4 == 0, 1 - labels[:80], labels[:80])
    network = OwnNetwork(2, name="stripes")
    network.fit(small[80:], labels[80:], (small[:80], wrong))
    assert network.accuracy == pytest.approx(0.75, abs=0.05)
    assert (network.prefix, network.title) == ("stripes_", "stripes classifier")


def test_the_number_of_steps_is_limited() -> None:
    images, labels = striped(1000)
    one, two = OwnNetwork(2), OwnNetwork(2)
    one.fit(small_images(images), labels, max_steps=2)
    two.fit(small_images(images), labels, max_steps=3)
    assert one.identity != two.identity


def test_images_of_the_size_of_the_network_stay_as_they_are() -> None:
    images = torch.randint(256, (2, 3, 32, 32)).byte()
    assert torch.equal(small_images(images), images)
    black = torch.zeros(2, 3, 100, 100).byte()
    assert torch.equal(small_images(black), torch.zeros(2, 3, 32, 32).byte())


def test_the_random_numbers_of_others_are_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    OwnNetwork(2)
    assert torch.equal(torch.rand(1), expected)


def test_too_few_images() -> None:
    images, labels = striped(9)
    with pytest.raises(ValueError, match="at least 10 images to learn from, got 9: add images"):
        OwnNetwork(2).fit(small_images(images), labels)
