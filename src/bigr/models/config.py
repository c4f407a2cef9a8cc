"""Configurations of the two networks: frozen, validated, and importable without torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Ge, MinLen

from bigr.schema import Fraction, NonNegativeFloat, PositiveInt, check_fields
from bigr.schema import from_dict as from_dict

Objective = Literal["flip", "x0", "direct"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BiGRConfig:
    """Configuration of the generator: the masked transformer and its binary transcoder.

    Args:
        dim: width of the transformer.
        num_layers: number of transformer layers.
        num_heads: number of attention heads; ``dim / num_heads`` must be a multiple of 4 (2-D
            RoPE).
        grid_size: side of the token grid; 16 for images of 256x256 pixels.
        code_dim: bits per token; 24 or 32 in the paper.
        num_classes: number of classes without the null class, whose id is ``num_classes``.
        denoiser_dim: width of the transcoder's MLP.
        denoiser_blocks: number of residual blocks of the transcoder's MLP.
        num_diffusion_steps: number of steps T of the Bernoulli diffusion.
        objective: what the transcoder predicts (Table 2 of the paper): ``flip`` for x_0 XOR x_t,
            ``x0`` for the clean bits, ``direct`` for the clean bits in one step without diffusion.
        weighted_loss: whether to weight the cross-entropy of each bit by the balance of its token.
        auxiliary_weight: weight of the posterior cross-entropy term; 0 disables it.
        dropout: dropout probability of the outputs of attention and feed-forward.
        class_dropout: probability of replacing a label by the null class in training.
        norm_eps: epsilon of RMSNorm.
        rope_base: base of the rotary frequencies.
        feed_forward_multiple: the hidden width of SwiGLU is rounded up to a multiple of this.
        init_std: standard deviation of initial Linear and Embedding weights. The paper's 0.02 fits
            widths around 1024; 1/sqrt(dim) fits any width.

    Raises:
        ValueError: if a value is out of range, naming the field.
    """

    dim: PositiveInt
    num_layers: PositiveInt
    num_heads: PositiveInt
    grid_size: PositiveInt
    code_dim: PositiveInt
    num_classes: PositiveInt
    denoiser_dim: PositiveInt
    denoiser_blocks: PositiveInt
    num_diffusion_steps: PositiveInt = 256
    objective: Objective = "flip"
    weighted_loss: bool = True
    auxiliary_weight: NonNegativeFloat = 0.0
    dropout: Fraction = 0.1
    class_dropout: Fraction = 0.1
    norm_eps: NonNegativeFloat = 1e-5
    rope_base: Annotated[float, Ge(1)] = 10_000.0
    feed_forward_multiple: PositiveInt = 256
    init_std: NonNegativeFloat = 0.02

    def __post_init__(self) -> None:
        check_fields(self)
        if self.dim % (4 * self.num_heads) != 0:
            raise ValueError(
                f"BiGRConfig.dim={self.dim} and num_heads={self.num_heads} don't fit: dim / "
                "num_heads must be a multiple of 4, because the 2-D rotary embedding splits each "
                "head into row and column pairs."
            )
        if self.num_diffusion_steps < 2:
            raise ValueError(
                "BiGRConfig.num_diffusion_steps must be at least 2; use objective=direct to train "
                "without diffusion."
            )
        if self.objective == "direct" and self.auxiliary_weight > 0:
            raise ValueError(
                "BiGRConfig.auxiliary_weight needs a diffusion objective; set it to 0 with "
                "objective=direct."
            )

    @property
    def seq_len(self) -> int:
        """Number of tokens per image, N."""
        return self.grid_size**2

    @property
    def null_class(self) -> int:
        """Class id of unconditional generation."""
        return self.num_classes

    @property
    def feed_forward_dim(self) -> int:
        """Hidden width of SwiGLU: floor(2/3 * 4 * dim), rounded up to the multiple."""
        hidden = int(2 * 4 * self.dim / 3)
        multiple = self.feed_forward_multiple
        return multiple * math.ceil(hidden / multiple)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BinaryAutoencoderConfig:
    """Configuration of the binary autoencoder (B-AE).

    Args:
        code_dim: bits per token.
        image_size: side of the square images in pixels; determines where attention is used.
        base_channels: channels of the first stage.
        channel_multipliers: channels of each stage, as multiples of ``base_channels``. Each stage
            has half the resolution of the previous one.
        embed_dim: channels between encoder, quantizer and decoder.
        res_blocks: residual blocks per stage.
        attn_resolutions: resolutions at which each residual block is followed by attention.
        norm_first: whether the decoder starts with a GroupNorm, as all released weights do.
        norm_groups: groups of every GroupNorm. Networks with few channels need fewer groups: a
            group of one or two channels loses the brightness and contrast of the image.

    Raises:
        ValueError: if a value is out of range, naming the field.
    """

    code_dim: PositiveInt
    image_size: PositiveInt
    base_channels: PositiveInt = 128
    channel_multipliers: Annotated[tuple[PositiveInt, ...], MinLen(1)] = (1, 1, 2, 2, 4)
    embed_dim: PositiveInt = 256
    res_blocks: PositiveInt = 2
    attn_resolutions: tuple[PositiveInt, ...] = (16,)
    norm_first: bool = True
    norm_groups: PositiveInt = 32

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("base_channels", "embed_dim"):
            if getattr(self, name) % self.norm_groups != 0:
                raise ValueError(
                    f"BinaryAutoencoderConfig.{name}={getattr(self, name)} must be a multiple of "
                    f"norm_groups={self.norm_groups}, the number of GroupNorm groups."
                )
        if self.image_size % self.downsampling != 0:
            raise ValueError(
                f"BinaryAutoencoderConfig.image_size={self.image_size} must be a multiple of "
                f"{self.downsampling}, the downsampling of {len(self.channel_multipliers)} stages."
            )

    @property
    def downsampling(self) -> int:
        """Pixels per token along one side."""
        return 2 ** (len(self.channel_multipliers) - 1)

    @property
    def grid_size(self) -> int:
        """Tokens along one side of the image."""
        return self.image_size // self.downsampling


# The functions below check single attributes for classes that do not use bigr.schema yet.


def require(condition: bool, message: str) -> None:
    """Raise ``ValueError(message)`` unless ``condition`` holds."""
    if not condition:
        raise ValueError(message)


def check_positive_ints(config: object, *names: str) -> None:
    """Raise ``ValueError`` naming the first of ``names`` that isn't an integer of at least 1."""
    for name in names:
        value = getattr(config, name)
        is_int = isinstance(value, int) and not isinstance(value, bool)
        require(
            is_int and value >= 1,
            f"{type(config).__name__}.{name} must be a positive integer, got {value!r}.",
        )


def check_choice(config: object, name: str, choices: Sequence[str]) -> None:
    """Raise ``ValueError`` unless attribute ``name`` is one of ``choices``."""
    value = getattr(config, name)
    require(
        value in choices,
        f"{type(config).__name__}.{name} must be one of {', '.join(choices)}; got {value!r}.",
    )


def check_range(config: object, name: str, low: float, high: float = math.inf) -> None:
    """Raise ``ValueError`` unless attribute ``name`` is a number in [``low``, ``high``]."""
    value = getattr(config, name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    bound = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f"at least {low:g}, and finite"
    require(
        is_number and math.isfinite(value) and low <= value <= high,
        f"{type(config).__name__}.{name} must be a number {bound}, got {value!r}.",
    )
