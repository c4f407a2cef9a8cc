"""The binary autoencoder (B-AE): images to bits and back.

VQGAN-shaped encoder and decoder around a Bernoulli quantizer, after Binary Latent Diffusion (CVPR
2023, arXiv 2304.04820). Shapes: B batch, K bits, (H, W) pixels, (h, w) tokens, C channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bigr.models.config import BinaryAutoencoderConfig


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """GroupNorm with eps 1e-6."""
    return nn.GroupNorm(groups, channels, eps=1e-6)


def conv3x3(channels_in: int, channels_out: int) -> nn.Conv2d:
    """Size-preserving 3x3 convolution."""
    return nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)


def freeze(module: nn.Module) -> nn.Module:
    """Keep a module's weights for the checkpoint's sake, out of training and of DDP."""
    return module.requires_grad_(False)


class ResidualBlock(nn.Module):
    """GN, SiLU, conv, GN, SiLU, conv, plus the input (through a 1x1 conv if channels change)."""

    def __init__(self, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = group_norm(channels_in, groups)
        self.conv1 = conv3x3(channels_in, channels_out)
        self.norm2 = group_norm(channels_out, groups)
        self.conv2 = conv3x3(channels_out, channels_out)
        self.skip = nn.Conv2d(channels_in, channels_out, kernel_size=1)
        self.changes_channels = channels_in != channels_out
        if not self.changes_channels:
            freeze(self.skip)  # in every released checkpoint, used by none of these blocks

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        skipped: Tensor = self.skip(x) if self.changes_channels else x
        return skipped + hidden


class AttentionBlock(nn.Module):
    """Single-head self-attention over all positions, 1x1 convolutions, residual."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.query = nn.Conv2d(channels, channels, kernel_size=1)
        self.key = nn.Conv2d(channels, channels, kernel_size=1)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.out = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        query, key, value = (
            layer(normed).flatten(2).transpose(1, 2)[:, None]
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)  # scale C^-1/2
        hidden: Tensor = self.out(mixed[:, 0].transpose(1, 2).reshape(x.shape))
        return x + hidden


class Downsample(nn.Module):
    """Zero-pad right and bottom by one, 3x3 convolution with stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return hidden


class Upsample(nn.Module):
    """Nearest x2, 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return hidden


def _stage(config: BinaryAutoencoderConfig, channels_in: int, index: int) -> list[nn.Module]:
    """Residual blocks of stage ``index``, with attention where its side asks for it."""
    channels = config.base_channels * config.channel_multipliers[index]
    side = config.image_size // 2**index
    blocks: list[nn.Module] = []
    for _ in range(config.res_blocks):
        blocks.append(ResidualBlock(channels_in, channels, config.norm_groups))
        if side in config.attn_resolutions:
            blocks.append(AttentionBlock(channels, config.norm_groups))
        channels_in = channels
    return blocks


def _middle(channels: int, groups: int) -> list[nn.Module]:
    return [
        ResidualBlock(channels, channels, groups),
        AttentionBlock(channels, groups),
        ResidualBlock(channels, channels, groups),
    ]


def _run(blocks: nn.Sequential, x: Tensor, recomputes: bool) -> Tensor:
    for block in blocks:
        is_large = isinstance(block, ResidualBlock | AttentionBlock)
        if recomputes and is_large and torch.is_grad_enabled():
            x = checkpoint(block, x, use_reentrant=False)
        else:
            x = block(x)
    return x


class Encoder(nn.Module):
    """Images (B, 3, H, W) to features (B, C, h, w)."""

    recomputes = False

    def __init__(self, config: BinaryAutoencoderConfig) -> None:
        super().__init__()
        channels = config.base_channels
        blocks: list[nn.Module] = [conv3x3(3, channels)]
        last = len(config.channel_multipliers) - 1
        for index, multiplier in enumerate(config.channel_multipliers):
            blocks += _stage(config, channels, index)
            channels = config.base_channels * multiplier
            if index < last:
                blocks.append(Downsample(channels))
        blocks += _middle(channels, config.norm_groups)
        # No activation between the last norm and the last convolution.
        blocks += [
            group_norm(channels, config.norm_groups),
            conv3x3(channels, config.embed_dim),
        ]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, images: Tensor) -> Tensor:
        return _run(self.blocks, images, self.recomputes)


class Quantizer(nn.Module):
    """Features to bit probabilities, and bits to the decoder's input."""

    def __init__(self, config: BinaryAutoencoderConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.embed_dim, config.code_dim, kernel_size=1)
        self.embedding = nn.Embedding(config.code_dim, config.embed_dim)

    def forward(self, features: Tensor) -> Tensor:
        """P(bit = 1), (B, K, h, w)."""
        bit_probs: Tensor = self.proj(features).sigmoid()
        return bit_probs

    def embed(self, codes: Tensor) -> Tensor:
        """Sum over k of b_k E_k: (B, K, h, w) to (B, C, h, w)."""
        embedded = torch.einsum("bkhw,kc->bchw", codes, self.embedding.weight)
        # The product comes out channels-last, which would make every GroupNorm after it slow.
        return embedded.contiguous()


class Decoder(nn.Module):
    """Embedded codes (B, C, h, w) to images (B, 3, H, W)."""

    recomputes = False

    def __init__(self, config: BinaryAutoencoderConfig) -> None:
        super().__init__()
        last = len(config.channel_multipliers) - 1
        channels = config.base_channels * config.channel_multipliers[last]
        groups = config.norm_groups
        blocks: list[nn.Module] = []
        if config.norm_first:
            blocks.append(group_norm(config.embed_dim, groups))
        blocks.append(conv3x3(config.embed_dim, channels))
        blocks += _middle(channels, groups)
        for index in range(last, -1, -1):
            blocks += _stage(config, channels, index)
            channels = config.base_channels * config.channel_multipliers[index]
            if index > 0:
                blocks.append(Upsample(channels))
        blocks += [group_norm(channels, groups), conv3x3(channels, 3)]
        self.blocks = nn.Sequential(*blocks)
        # A head of the released training code that decoding never uses.
        self.log_sigma = freeze(
            nn.Sequential(
                conv3x3(channels, channels),
                nn.ReLU(),
                nn.Conv2d(channels, 3, kernel_size=1),
            )
        )

    def forward(self, embedded: Tensor) -> Tensor:
        return _run(self.blocks, embedded, self.recomputes)


class AutoencoderOutput(NamedTuple):
    """What one pass through the B-AE gives."""

    reconstruction: Tensor
    """(B, 3, H, W), around [0, 1], not clamped."""
    bit_probs: Tensor
    """(B, K, h, w)."""
    codes: Tensor
    """(B, K, h, w) of 0/1, detached."""


class BinaryAutoencoder(nn.Module):
    """Images in [0, 1] to codes of K bits per token, and back."""

    def __init__(self, config: BinaryAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = Quantizer(config)
        self.decoder = Decoder(config)

    @property
    def last_weight(self) -> nn.Parameter:
        """Weight of the decoder's last convolution, where the GAN's adaptive weight is measured."""
        weight: nn.Parameter = self.decoder.blocks[-1].weight  # type: ignore[assignment]
        return weight

    def checkpoint_activations(self, is_on: bool = True) -> None:
        """Recompute residual and attention blocks in the backward pass instead of keeping them."""
        self.encoder.recomputes = self.decoder.recomputes = is_on

    def encode(self, images: Tensor) -> Tensor:
        """Probability that each bit is 1.

        Args:
            images: (B, 3, H, W) RGB in [0, 1], sides multiples of ``config.downsampling``.

        Returns:
            (B, K, h, w).

        Raises:
            ValueError: if the shape doesn't fit.
        """
        factor = self.config.downsampling
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must have shape (batch, 3, H, W), got {tuple(images.shape)}.")
        if images.shape[2] % factor or images.shape[3] % factor:
            raise ValueError(
                f"the sides of images must be multiples of {factor}, got {tuple(images.shape)}."
            )
        bit_probs: Tensor = self.quantizer(self.encoder(images))
        return bit_probs

    def quantize(
        self,
        bit_probs: Tensor,
        *,
        deterministic: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Bits b ~ Bernoulli(``bit_probs``), or b = [p > 0.5] if ``deterministic``.

        Args:
            bit_probs: any shape.
            deterministic: the paper and the released code draw.
            generator: on the device of ``bit_probs``.

        Returns:
            0.0 or 1.0, detached, the shape and dtype of ``bit_probs``.
        """
        bit_probs = bit_probs.detach()
        if deterministic:
            return (bit_probs > 0.5).to(bit_probs.dtype)
        # Not torch.bernoulli: on a GPU it ends the process where a probability is NaN.
        uniform = torch.rand(bit_probs.shape, generator=generator, device=bit_probs.device)
        return (uniform < bit_probs).to(bit_probs.dtype)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, K, h, w) of 0/1 to images (B, 3, H, W), around [0, 1], not clamped.

        Raises:
            ValueError: if ``codes`` doesn't have this autoencoder's number of bits.
        """
        if codes.ndim != 4 or codes.shape[1] != self.config.code_dim:
            raise ValueError(
                f"codes must have shape (batch, {self.config.code_dim}, h, w) for this "
                f"autoencoder, got {tuple(codes.shape)}."
            )
        images: Tensor = self.decoder(self.quantizer.embed(codes))
        return images

    def forward(
        self,
        images: Tensor,
        *,
        deterministic: bool = False,
        generator: torch.Generator | None = None,
    ) -> AutoencoderOutput:
        """Encode, quantize with the straight-through gradient b + z - sg(z), decode."""
        bit_probs = self.encode(images)
        codes = self.quantize(bit_probs, deterministic=deterministic, generator=generator)
        straight_through = codes + bit_probs - bit_probs.detach()
        return AutoencoderOutput(self.decode(straight_through), bit_probs, codes)
