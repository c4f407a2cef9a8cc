"""The binary autoencoder (B-AE): encodes images to bits and decodes them.

It has the encoder and decoder of VQGAN around a Bernoulli quantizer (arXiv 2304.04820).
Shapes: B batch, K bits, (H, W) pixels, (h, w) tokens, C channels.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bigr.models.attention import attend
from bigr.models.config import BinaryAutoencoderConfig


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """Create a GroupNorm with the epsilon of VQGAN, 1e-6."""
    return nn.GroupNorm(groups, channels, eps=1e-6)


def conv3x3(channels_in: int, channels_out: int) -> nn.Conv2d:
    """Create a 3x3 convolution that preserves the resolution."""
    return nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU and 3x3 convolution, twice, plus the (if necessary projected) input."""

    def __init__(self, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = group_norm(channels_in, groups)
        self.conv1 = conv3x3(channels_in, channels_out)
        self.norm2 = group_norm(channels_out, groups)
        self.conv2 = conv3x3(channels_out, channels_out)
        self.skip = nn.Conv2d(channels_in, channels_out, kernel_size=1)
        self.changes_channels = channels_in != channels_out
        if not self.changes_channels:
            self.skip.requires_grad_(False)  # unused, but part of every released checkpoint

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        skipped: Tensor = self.skip(x) if self.changes_channels else x
        return skipped + hidden


class AttentionBlock(nn.Module):
    """Single-head self-attention over all positions with 1x1 convolutions, plus the input."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.query = nn.Conv2d(channels, channels, kernel_size=1)
        self.key = nn.Conv2d(channels, channels, kernel_size=1)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.out = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        # (B, C, H, W) to (B, 1, H W, C): one head.
        query = self.query(normed).flatten(2).transpose(1, 2)[:, None]
        key = self.key(normed).flatten(2).transpose(1, 2)[:, None]
        value = self.value(normed).flatten(2).transpose(1, 2)[:, None]
        mixed = attend(query, key, value)  # scaled by C^(-1/2)
        hidden: Tensor = self.out(mixed[:, 0].transpose(1, 2).reshape(x.shape))
        return x + hidden


def downsample(channels: int) -> nn.Module:
    """Halve the resolution: zero padding at right and bottom, then a 3x3 convolution, stride 2."""
    conv = nn.Conv2d(channels, channels, kernel_size=3, stride=2)
    return nn.Sequential(OrderedDict(pad=nn.ZeroPad2d((0, 1, 0, 1)), conv=conv))


def upsample(channels: int) -> nn.Module:
    """Double the resolution by nearest-neighbour interpolation, then a 3x3 convolution."""
    resize = nn.Upsample(scale_factor=2.0, mode="nearest")
    return nn.Sequential(OrderedDict(resize=resize, conv=conv3x3(channels, channels)))


def _stage(config: BinaryAutoencoderConfig, channels_in: int, index: int) -> list[nn.Module]:
    """Create the residual blocks of stage ``index``, with attention if it is configured there."""
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


class Blocks(nn.Module):
    """The blocks of an encoder or decoder, one after the other."""

    blocks: nn.Sequential
    recomputes = False
    """Whether the backward pass recomputes the activations inside large blocks."""

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            is_large = isinstance(block, ResidualBlock | AttentionBlock)
            is_recomputed = self.recomputes and is_large and torch.is_grad_enabled()
            x = checkpoint(block, x, use_reentrant=False) if is_recomputed else block(x)
        return x


class Encoder(Blocks):
    """Convolutional encoder of images (B, 3, H, W) to features (B, C, h, w)."""

    def __init__(self, config: BinaryAutoencoderConfig) -> None:
        super().__init__()
        channels = config.base_channels
        blocks: list[nn.Module] = [conv3x3(3, channels)]
        last = len(config.channel_multipliers) - 1
        for index, multiplier in enumerate(config.channel_multipliers):
            blocks += _stage(config, channels, index)
            channels = config.base_channels * multiplier
            if index < last:
                blocks.append(downsample(channels))
        blocks += _middle(channels, config.norm_groups)
        # There is no activation between the last norm and the last convolution.
        blocks += [group_norm(channels, config.norm_groups), conv3x3(channels, config.embed_dim)]
        self.blocks = nn.Sequential(*blocks)


class Quantizer(nn.Module):
    """Converts features to bit probabilities, and holds the embedding E_k of each bit."""

    def __init__(self, config: BinaryAutoencoderConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.embed_dim, config.code_dim, kernel_size=1)
        self.embedding = nn.Embedding(config.code_dim, config.embed_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Compute P(bit = 1), (B, K, h, w), from features (B, C, h, w)."""
        bit_probs: Tensor = self.proj(features).sigmoid()
        return bit_probs


class Decoder(Blocks):
    """Convolutional decoder of embedded codes (B, C, h, w) to images (B, 3, H, W)."""

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
                blocks.append(upsample(channels))
        blocks += [group_norm(channels, groups), conv3x3(channels, 3)]
        self.blocks = nn.Sequential(*blocks)
        # The released training code has this head; decoding does not use it.
        self.log_sigma = nn.Sequential(
            conv3x3(channels, channels), nn.ReLU(), nn.Conv2d(channels, 3, kernel_size=1)
        ).requires_grad_(False)


class AutoencoderOutput(NamedTuple):
    """Result of one pass through the B-AE."""

    reconstruction: Tensor
    """(B, 3, H, W), approximately in [0, 1], not clamped."""
    bit_probs: Tensor
    """(B, K, h, w) probabilities that bits are 1."""
    codes: Tensor
    """(B, K, h, w) bits 0 or 1, detached."""


class BinaryAutoencoder(nn.Module):
    """Autoencoder of images in [0, 1] whose latent codes are K bits per token."""

    def __init__(self, config: BinaryAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = Quantizer(config)
        self.decoder = Decoder(config)

    @property
    def last_weight(self) -> nn.Parameter:
        """Weight of the last convolution of the decoder, used for the adaptive GAN weight."""
        weight: nn.Parameter = self.decoder.blocks[-1].weight  # type: ignore[assignment]
        return weight

    def checkpoint_activations(self, is_on: bool = True) -> None:
        """Set whether the backward pass recomputes activations instead of storing them."""
        self.encoder.recomputes = self.decoder.recomputes = is_on

    def encode(self, images: Tensor) -> Tensor:
        """Compute the probabilities (B, K, h, w) that bits are 1.

        Args:
            images: (B, 3, H, W) RGB in [0, 1]; H and W are multiples of ``config.downsampling``.

        Raises:
            ValueError: if the shape is wrong.
        """
        factor = self.config.downsampling
        is_batch = images.ndim == 4 and images.shape[1] == 3
        if not is_batch or images.shape[2] % factor or images.shape[3] % factor:
            raise ValueError(
                f"images must have shape (batch, 3, H, W), with H and W multiples of {factor}, got "
                f"{tuple(images.shape)}."
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
        """Draw bits b ~ Bernoulli(p), as the paper does, or take b = [p > 0.5].

        Args:
            bit_probs: probabilities p of any shape.
            deterministic: whether to take the more likely value of each bit.
            generator: source of randomness, on the device of ``bit_probs``.

        Returns:
            0.0 and 1.0 in the shape and dtype of ``bit_probs``, detached.
        """
        bit_probs = bit_probs.detach()
        if deterministic:
            return (bit_probs > 0.5).to(bit_probs.dtype)
        # On a GPU, torch.bernoulli would end the process if a probability is NaN.
        uniform = torch.rand(bit_probs.shape, generator=generator, device=bit_probs.device)
        return (uniform < bit_probs).to(bit_probs.dtype)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode bits (B, K, h, w) to images (B, 3, H, W), approximately in [0, 1], not clamped.

        Raises:
            ValueError: if the number of bits is not that of this autoencoder.
        """
        if codes.ndim != 4 or codes.shape[1] != self.config.code_dim:
            raise ValueError(
                f"codes must have shape (batch, {self.config.code_dim}, h, w) for this "
                f"autoencoder, got {tuple(codes.shape)}."
            )
        # Sum the embeddings of the bits that are 1.
        embedded = torch.einsum("bkhw,kc->bchw", codes, self.quantizer.embedding.weight)
        # einsum returns a channels-last tensor, which would make every following GroupNorm slow.
        images: Tensor = self.decoder(embedded.contiguous())
        return images

    def forward(
        self,
        images: Tensor,
        *,
        deterministic: bool = False,
        generator: torch.Generator | None = None,
    ) -> AutoencoderOutput:
        """Encode, quantize and decode; the gradient passes straight through as b + p - sg(p)."""
        bit_probs = self.encode(images)
        codes = self.quantize(bit_probs, deterministic=deterministic, generator=generator)
        straight_through = codes + bit_probs - bit_probs.detach()
        return AutoencoderOutput(self.decode(straight_through), bit_probs, codes)
