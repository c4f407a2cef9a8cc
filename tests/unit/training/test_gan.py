"""The losses of both networks, and their settings; steps are in tests/integration."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import nn

from bigr.models.discriminator import DiscriminatorConfig, PatchDiscriminator
from bigr.training.gan import Adversary, GANConfig

OPTIMIZER = functools.partial(torch.optim.Adam, lr=1e-3)


def test_neither_loss_reaches_the_other_network() -> None:
    torch.manual_seed(0)
    sizes = DiscriminatorConfig(base_channels=8, num_layers=1)
    config = GANConfig(optimizer=OPTIMIZER, discriminator=sizes, weight=0.5)
    network = PatchDiscriminator(sizes)
    adversary = Adversary(config, network, max_skipped_steps=0)
    images = torch.rand(2, 3, 16, 16)
    last = nn.Parameter(torch.ones(1))
    reconstruction = images * last
    term = adversary.term(reconstruction, (reconstruction - 0.1).abs().mean(), last)
    assert term.loss.item() == pytest.approx(0.5 * (term.adaptive_weight * term.gan_loss).item())
    term.loss.backward()
    assert last.grad is not None
    assert all(parameter.grad is None for parameter in network.parameters())
    last.grad = None
    loss, real, fake = adversary.loss(images, images * last)
    loss.backward()
    assert last.grad is None
    assert real.item() == pytest.approx(fake.item(), abs=1e-4)
    assert any(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start_step": -1}, r"GANConfig\.start_step must be an integer of at least 0, got -1"),
        ({"weight": -0.1}, r"GANConfig\.weight must be a number of at least 0"),
        ({"diffaugment": ["cutout"]}, r"GANConfig\.diffaugment must be .* color or translation"),
    ],
)
def test_impossible_settings_of_the_gan(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GANConfig(optimizer=OPTIMIZER, **settings)
