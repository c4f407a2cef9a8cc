"""Adversarial losses of the B-AE (VQGAN, arXiv 2012.09841; Binary Latent Diffusion)."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-4
MAX_WEIGHT = 1.0


def autoencoder_loss(fake_logits: Tensor) -> Tensor:
    """Compute the loss -mean D(y) of the B-AE from logits of any shape."""
    return -fake_logits.mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Compute the hinge loss (mean relu(1 - D(x)) + mean relu(1 + D(y))) / 2 from any shapes."""
    return 0.5 * (F.relu(1.0 - real_logits).mean() + F.relu(1.0 + fake_logits).mean())


def adaptive_weight(reconstruction_loss: Tensor, gan_loss: Tensor, last_weight: Tensor) -> Tensor:
    """Compute the weight of the GAN loss that gives both losses gradients of the same norm.

    The weight is ||g_rec|| / (||g_gan|| + 1e-4), clamped to [0, 1], where the gradients are those
    of the last convolution of the decoder. With several processes the gradients are averaged
    first, so that the weight is that of the whole batch.

    Args:
        reconstruction_loss: scalar; its graph is kept.
        gan_loss: scalar; its graph is kept.
        last_weight: weight of the last convolution.

    Returns:
        A detached scalar.
    """
    gradients = [
        torch.autograd.grad(loss, last_weight, retain_graph=True)[0].float()
        for loss in (reconstruction_loss, gan_loss)
    ]
    both = torch.stack(gradients).flatten(1)
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(both)
        both /= dist.get_world_size()
    reconstruction, gan = both.norm(dim=1)
    return (reconstruction / (gan + EPS)).clamp(0.0, MAX_WEIGHT).detach()
