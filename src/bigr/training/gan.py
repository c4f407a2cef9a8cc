"""The adversarial part of a B-AE's training: settings, and the losses of both networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from bigr.losses import adversarial as losses
from bigr.losses.diffaugment import augment
from bigr.models.discriminator import DiscriminatorConfig, PatchDiscriminator
from bigr.schema import NonNegativeFloat, NonNegativeInt, check_fields

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GANConfig:
    """How a B-AE is trained against a discriminator.

    Args:
        optimizer: called with the discriminator's parameters.
        discriminator: sizes of the discriminator.
        weight: factor of the adversarial loss, besides the adaptive weight.
        start_step: number of optimiser steps before the discriminator takes part.
        diffaugment: augmentations of the discriminator's input, for small datasets.
    """

    optimizer: OptimizerFactory
    discriminator: DiscriminatorConfig = dataclasses.field(default_factory=DiscriminatorConfig)
    weight: NonNegativeFloat = 1.0
    start_step: NonNegativeInt = 30_001
    diffaugment: tuple[Literal["color", "translation"], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "diffaugment", tuple(self.diffaugment))
        check_fields(self)


@dataclasses.dataclass
class AdversarialTerm:
    """The adversarial term of the B-AE's loss."""

    loss: Tensor
    """weight * adaptive weight * -mean D(y), with its graph."""
    gan_loss: Tensor
    """-mean D(y)."""
    adaptive_weight: Tensor
    """Ratio of the gradients' norms, see :func:`bigr.losses.adversarial.adaptive_weight`."""


class Adversary:
    """A discriminator and its settings.

    Args:
        config: settings of the adversarial training.
        network: the discriminator.
    """

    def __init__(self, config: GANConfig, network: PatchDiscriminator) -> None:
        self.config = config
        self.network = network

    def term(
        self, reconstruction: Tensor, reconstruction_loss: Tensor, last_weight: Tensor
    ) -> AdversarialTerm:
        """Return the B-AE's adversarial term. The discriminator receives no gradient.

        Args:
            reconstruction: (B, 3, H, W), with its graph.
            reconstruction_loss: scalar, with its graph.
            last_weight: weight of the decoder's last convolution.
        """
        self.network.requires_grad_(False)
        gan_loss = losses.autoencoder_loss(self._logits(reconstruction))
        self.network.requires_grad_(True)
        weight = losses.adaptive_weight(reconstruction_loss, gan_loss, last_weight)
        loss = self.config.weight * weight * gan_loss
        return AdversarialTerm(loss, gan_loss.detach(), weight)

    def loss(self, images: Tensor, reconstruction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the discriminator's hinge loss, and its mean logits of real and of fake images.

        Args:
            images: real images (B, 3, H, W).
            reconstruction: (B, 3, H, W); it receives no gradient.
        """
        real = self._logits(images)
        fake = self._logits(reconstruction.detach())
        loss = losses.discriminator_loss(real, fake)
        return loss, real.detach().mean(), fake.detach().mean()

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(augment(images, self.config.diffaugment)).float()
        return logits
