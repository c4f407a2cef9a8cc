"""The adversarial part of a B-AE's training: settings, and the losses of both networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from bigr.losses import adversarial as losses
from bigr.losses.diffaugment import augment
from bigr.models.discriminator import DiscriminatorConfig, PatchDiscriminator
from bigr.schema import NonNegativeFloat, NonNegativeInt, check_fields
from bigr.training.gradient_guard import GradientGuard
from bigr.training.lightning_private import is_end_of_accumulation

if TYPE_CHECKING:
    from bigr.training.autoencoder_module import AutoencoderModule

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GANConfig:
    """How a B-AE is trained against a discriminator.

    Args:
        optimizer: called with the discriminator's parameters.
        discriminator: sizes of the discriminator.
        weight: factor of the adversarial loss, in addition to the adaptive weight.
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
    """The discriminator, and the step in which it and the B-AE are trained.

    Args:
        config: settings of the adversarial training.
        network: the discriminator.
        max_skipped_steps: see :class:`~bigr.training.base_module.TrainingModule`.
    """

    def __init__(
        self, config: GANConfig, network: PatchDiscriminator, max_skipped_steps: int
    ) -> None:
        self.config = config
        self.network = network
        self.guard = GradientGuard(max_skipped_steps)

    def step(
        self,
        module: AutoencoderModule,
        images: Tensor,
        reconstruction: Tensor,
        reconstruction_loss: Tensor,
        loss: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the backward passes of both networks, and their steps if the accumulation ends.

        Args:
            module: trains the B-AE, with manual optimisation.
            images: (B, 3, H, W).
            reconstruction: (B, 3, H, W), with its graph.
            reconstruction_loss: the part of ``loss`` that determines the adaptive weight.
            loss: the B-AE's loss without the adversarial term.

        Returns:
            The B-AE's loss with the adversarial term, and values to log.
        """
        optimizers: Any = module.optimizers()
        optimizer, other = optimizers
        share, limit = 1.0 / module.accumulate_grad_batches, module.gradient_clip_val
        is_adversarial = module.global_step >= self.config.start_step
        is_step = is_end_of_accumulation(module, module.accumulate_grad_batches)
        values: dict[str, Tensor] = {}
        # 1. The gradient of the B-AE.
        if is_adversarial:
            last_weight = module.autoencoder.last_weight
            term = self.term(reconstruction, reconstruction_loss, last_weight)
            loss = loss + term.loss
            values = {"gan_loss": term.gan_loss, "gan_weight": term.adaptive_weight}
        module.manual_backward(loss * share)
        if is_step:
            module.guarded(module.guard, optimizer, module.parts(), limit)
        # 2. The gradient of the discriminator.
        if is_adversarial:
            d_loss, real, fake = self.loss(images, reconstruction)
            values.update(discriminator_loss=d_loss, logits_real=real, logits_fake=fake)
            module.manual_backward(d_loss * share)
            if is_step:
                parts = {"discriminator": list(self.network.parameters())}
                module.guarded(self.guard, other, parts, limit)
        # 3. The steps of both optimisers.
        if is_step:
            if is_adversarial:
                _scale_rate(optimizer, other)
                # Not Lightning's wrapper, which would count this as another step of the run.
                other.optimizer.step()
                other.zero_grad()
            optimizer.step()
            optimizer.zero_grad()
            scheduler: Any = module.lr_schedulers()
            if scheduler is not None:
                scheduler.step()
        return loss, values

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


def _scale_rate(optimizer: Any, other: Any) -> None:
    """Scale the discriminator's learning rate as the schedule has scaled the B-AE's."""
    group = optimizer.param_groups[0]
    factor = group["lr"] / group.get("initial_lr", group["lr"])
    for group in other.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = group["initial_lr"] * factor
