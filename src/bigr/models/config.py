"""Configurations of the two networks: frozen, validated, and importable without torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MinLen

from bigr.models.noise_schedule import NoiseSchedule, schedule_from_data, schedule_to_data
from bigr.presets import from_preset, load_preset
from bigr.schema import Fraction, NonNegativeFloat, PositiveInt, check_fields, from_dict

Objective = Literal["flip", "x0", "direct", "categorical"]
AttentionKind = Literal["bidirectional", "causal"]


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
        num_diffusion_steps: number of steps T of the Bernoulli diffusion, at most 100,000.
        noise_schedule: ``linear``, or a :class:`~bigr.models.noise_schedule.NoiseSchedule`. The
            field holds plain data for checkpoints; :attr:`schedule` is the object.
        objective: what the transcoder predicts (Tables 1 and 2 of the paper): ``flip`` for
            x_0 XOR x_t, ``x0`` for the clean bits, ``direct`` for the clean bits in one step
            without diffusion, ``categorical`` for a softmax over all values of a token, see
            :mod:`bigr.models.categorical`.
        attention: ``bidirectional`` for a masked transformer, ``causal`` for one that predicts the
            next token in raster order and has no mask token.
        softmax_bits: most bits of a token that one softmax predicts; 12 bits have 4,096 values.
            Tokens with more bits are split into equal groups.
        weighted_loss: whether to weight the cross-entropy of each bit by the balance of its token;
            without effect on a softmax.
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
    num_diffusion_steps: Annotated[int, Ge(1), Le(100_000)] = 256
    noise_schedule: Literal["linear"] | Mapping[str, Any] | NoiseSchedule = dataclasses.field(
        default="linear", hash=False
    )
    objective: Objective = "flip"
    attention: AttentionKind = "bidirectional"
    softmax_bits: Annotated[int, Ge(1), Le(16)] = 12
    weighted_loss: bool = True
    auxiliary_weight: NonNegativeFloat = 0.0
    dropout: Fraction = 0.1
    class_dropout: Fraction = 0.1
    norm_eps: NonNegativeFloat = 1e-5
    rope_base: Annotated[float, Ge(1)] = 10_000.0
    feed_forward_multiple: PositiveInt = 256
    init_std: NonNegativeFloat = 0.02

    @classmethod
    def preset(cls, name: str, **changes: Any) -> BiGRConfig:
        """Return the sizes that ``model=<name>`` stands for on the command line.

        Args:
            name: ``s``, ``b``, ``l``, ``xl``, ``xxl``, ``l_512`` (the released one at 512x512) or
                ``digits``.
            changes: ``code_dim``, ``grid_size`` and ``num_classes``, which follow from the data,
                and settings that replace those of the preset.
        """
        return from_preset(cls, "model", name, changes)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.dim % (4 * self.num_heads) != 0:
            raise ValueError(
                f"BiGRConfig.dim={self.dim} and num_heads={self.num_heads} do not fit: dim / "
                "num_heads must be a multiple of 4, because the 2-D rotary embedding splits each "
                "head into row and column pairs."
            )
        if self.num_diffusion_steps < 2:
            raise ValueError(
                "BiGRConfig.num_diffusion_steps must be at least 2; use objective=direct to train "
                "without diffusion."
            )
        object.__setattr__(self, "noise_schedule", schedule_to_data(self.noise_schedule))
        _ = self.schedule  # raises an error if there is no such schedule
        if not self.uses_diffusion and self.auxiliary_weight > 0:
            raise ValueError(
                "BiGRConfig.auxiliary_weight needs a diffusion objective; set it to 0 with "
                f"objective={self.objective}."
            )

    @property
    def uses_diffusion(self) -> bool:
        """Whether the objective has noise levels."""
        return self.objective in ("flip", "x0")

    @property
    def num_groups(self) -> int:
        """Groups into which the bits of a token are split for a softmax.

        It is the smallest number of equal groups of at most ``softmax_bits`` bits, and 1 for all
        other objectives.
        """
        if self.objective != "categorical":
            return 1
        fewest = math.ceil(self.code_dim / self.softmax_bits)
        return next(n for n in range(fewest, self.code_dim + 1) if self.code_dim % n == 0)

    @property
    def num_outputs(self) -> int:
        """Outputs of the denoiser: one per bit, or one per value of a group of bits."""
        if self.objective != "categorical":
            return self.code_dim
        return int(2 ** (self.code_dim // self.num_groups))

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule of the diffusion."""
        data = schedule_to_data(self.noise_schedule)
        return schedule_from_data(data, self.num_diffusion_steps)

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


def stages_for(image_size: int) -> tuple[int, ...]:
    """Return the ``channel_multipliers`` of a B-AE for images of this size.

    The released B-AEs, for 256 and 512 pixels, have tokens of 16x16 pixels. Smaller images have
    smaller tokens, so that their grid is not too coarse: 8x8 pixels from 64 pixels on (8x8 tokens
    at 64, 16x16 tokens at 128), and 4x4 pixels below (8x8 tokens at 32).
    """
    if image_size >= 256:
        return (1, 1, 2, 2, 4)
    return (1, 2, 2, 4) if image_size >= 64 else (1, 2, 4)


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

    @classmethod
    def preset(cls, name: str, **changes: Any) -> BinaryAutoencoderConfig:
        """Return the sizes that ``autoencoder=<name>`` stands for on the command line.

        Args:
            name: ``d16``, ``d20``, ``d24``, ``d32`` or ``digits``.
            changes: ``image_size``, and settings that replace those of the preset. The stages
                follow from ``image_size`` as in :func:`stages_for`, unless the preset has its own.
        """
        preset = load_preset("autoencoder", name)
        if isinstance(size := changes.get("image_size"), int):
            preset = {"channel_multipliers": stages_for(size), **preset}
        return from_dict(cls, {**preset, **changes})

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
