"""The adversarial half of a B-AE's training: settings, and the steps of the discriminator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from bigr.losses import adversarial as losses
from bigr.losses.diffaugment import POLICIES, augment
from bigr.models.config import check_range, require
from bigr.models.discriminator import DiscriminatorConfig, PatchDiscriminator

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GANConfig:
    """How a B-AE is trained against a discriminator.

    Args:
        optimizer: builds the discriminator's optimiser from its parameters.
        discriminator: its sizes.
        weight: of the adversarial loss, times the adaptive weight.
        start_step: optimiser steps without it.
        diffaugment: ``color`` and ``translation`` of what the discriminator sees, or nothing.
    """

    optimizer: OptimizerFactory
    discriminator: DiscriminatorConfig = dataclasses.field(default_factory=DiscriminatorConfig)
    weight: float = 1.0
    start_step: int = 30_001
    diffaugment: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "diffaugment", tuple(self.diffaugment))
        check_range(self, "weight", 0.0)
        require(
            isinstance(self.start_step, int) and self.start_step >= 0,
            f"task.gan.start_step must be an integer of at least 0, got {self.start_step!r}.",
        )
        require(
            set(self.diffaugment) <= set(POLICIES),
            f"task.gan.diffaugment={list(self.diffaugment)}: it can be {', '.join(POLICIES)}.",
        )


@dataclasses.dataclass
class AdversarialTerm:
    """What the discriminator adds to the B-AE's loss."""

    loss: Tensor
    """weight * adaptive weight * -mean D(y)."""
    gan_loss: Tensor
    adaptive_weight: Tensor


class Adversary:
    """A discriminator and its settings.

    Args:
        config: settings.
        network: the discriminator.
    """

    def __init__(self, config: GANConfig, network: PatchDiscriminator) -> None:
        self.config = config
        self.network = network

    def term(
        self, reconstruction: Tensor, reconstruction_loss: Tensor, last_weight: Tensor
    ) -> AdversarialTerm:
        """For the B-AE; leaves no gradient in the discriminator.

        Args:
            reconstruction: (B, 3, H, W), with its graph.
            reconstruction_loss: scalar, with its graph.
            last_weight: of the decoder's last convolution.
        """
        self.network.requires_grad_(False)
        gan_loss = losses.autoencoder_loss(self._logits(reconstruction))
        self.network.requires_grad_(True)
        weight = losses.adaptive_weight(reconstruction_loss, gan_loss, last_weight)
        loss = self.config.weight * weight * gan_loss
        return AdversarialTerm(loss, gan_loss.detach(), weight)

    def loss(self, images: Tensor, reconstruction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For the discriminator: hinge loss, mean logits of real and of reconstructed images."""
        real = self._logits(images)
        fake = self._logits(reconstruction.detach())
        loss = losses.discriminator_loss(real, fake)
        return loss, real.detach().mean(), fake.detach().mean()

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(augment(images, self.config.diffaugment)).float()
        return logits
