"""Sizes of the two networks: frozen, validated, and free of torch so that a typo fails fast."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args

from bigr.models.noise_schedule import NoiseSchedule, schedule_from_data, schedule_to_data

Objective = Literal["flip", "x0", "direct"]

T = TypeVar("T")


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


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build the dataclass ``cls`` from a mapping.

    Raises:
        ValueError: for a key that ``cls`` doesn't have, or one without default that is missing.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    require(
        not unknown,
        f"{cls.__name__} has no {', '.join(unknown)}; its keys are {', '.join(fields)}.",
    )
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING
    ]
    require(not missing, f"{cls.__name__} needs {', '.join(missing)}.")
    return cls(**values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BiGRConfig:
    """Sizes of the generator: the masked transformer and its binary transcoder.

    Args:
        dim: width of the transformer.
        num_layers: transformer layers.
        num_heads: attention heads; ``dim / num_heads`` must be a multiple of 4 (2-D RoPE).
        grid_size: side of the token grid, 16 at 256x256 pixels.
        code_dim: bits per token, 24 or 32 in the paper.
        num_classes: classes without the null class, which gets the id ``num_classes``.
        denoiser_dim: width of the transcoder's MLP.
        denoiser_blocks: residual blocks of the transcoder's MLP.
        num_diffusion_steps: steps T of the Bernoulli diffusion.
        noise_schedule: ``linear``, or a :class:`~bigr.models.noise_schedule.NoiseSchedule`. The
            field holds plain data for checkpoints; :attr:`schedule` is the object.
        objective: what the transcoder predicts (the paper's Table 2): ``flip`` = x_0 XOR x_t,
            ``x0`` = the clean bits, ``direct`` = the clean bits in one call, without diffusion.
        weighted_loss: weight each bit's cross-entropy by the token's class balance (wBCE).
        auxiliary_weight: weight of the posterior cross-entropy term; 0 leaves it out.
        dropout: on the outputs of attention and feed-forward, while training.
        class_dropout: share of labels replaced by the null class, while training.
        norm_eps: epsilon of RMSNorm.
        rope_base: base of the rotary frequencies.
        feed_forward_multiple: SwiGLU's hidden width is rounded up to a multiple of this.
        init_std: of Linear and Embedding weights; the paper's 0.02 fits widths around 1024,
            1/sqrt(dim) fits any.
    """

    dim: int
    num_layers: int
    num_heads: int
    grid_size: int
    code_dim: int
    num_classes: int
    denoiser_dim: int
    denoiser_blocks: int
    num_diffusion_steps: int = 256
    noise_schedule: Literal["linear"] | Mapping[str, Any] | NoiseSchedule = dataclasses.field(
        default="linear", hash=False
    )
    objective: Objective = "flip"
    weighted_loss: bool = True
    auxiliary_weight: float = 0.0
    dropout: float = 0.1
    class_dropout: float = 0.1
    norm_eps: float = 1e-5
    rope_base: float = 10_000.0
    feed_forward_multiple: int = 256
    init_std: float = 0.02

    def __post_init__(self) -> None:
        check_positive_ints(
            self,
            *("dim", "num_layers", "num_heads", "grid_size", "code_dim", "num_classes"),
            *("denoiser_dim", "denoiser_blocks", "num_diffusion_steps", "feed_forward_multiple"),
        )
        require(
            self.dim % (4 * self.num_heads) == 0,
            f"BiGRConfig.dim={self.dim} and num_heads={self.num_heads} don't fit: dim / num_heads "
            "must be a multiple of 4, because the 2-D rotary embedding splits each head into row "
            "and column pairs.",
        )
        require(
            self.num_diffusion_steps >= 2,
            "BiGRConfig.num_diffusion_steps must be at least 2; "
            "for no diffusion at all set objective=direct.",
        )
        object.__setattr__(self, "noise_schedule", schedule_to_data(self.noise_schedule))
        _ = self.schedule  # raises an error if there is no such schedule
        check_choice(self, "objective", get_args(Objective))
        check_range(self, "auxiliary_weight", 0.0)
        check_range(self, "dropout", 0.0, 1.0)
        check_range(self, "class_dropout", 0.0, 1.0)
        check_range(self, "norm_eps", 0.0)
        check_range(self, "rope_base", 1.0)
        check_range(self, "init_std", 0.0)
        require(
            self.objective != "direct" or self.auxiliary_weight == 0,
            "BiGRConfig.auxiliary_weight needs a diffusion objective; set it to 0 with "
            "objective=direct.",
        )

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule of the diffusion."""
        data = schedule_to_data(self.noise_schedule)
        return schedule_from_data(data, self.num_diffusion_steps)

    @property
    def seq_len(self) -> int:
        """Tokens per image, N."""
        return self.grid_size**2

    @property
    def null_class(self) -> int:
        """Id of the null class."""
        return self.num_classes

    @property
    def feed_forward_dim(self) -> int:
        """Hidden width of SwiGLU: floor(2/3 * 4 * dim), rounded up."""
        hidden = int(2 * 4 * self.dim / 3)
        multiple = self.feed_forward_multiple
        return multiple * math.ceil(hidden / multiple)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BinaryAutoencoderConfig:
    """Sizes of the binary autoencoder (B-AE).

    Args:
        code_dim: bits per token.
        image_size: side of the square images in pixels; decides where attention sits.
        base_channels: channels of the first stage.
        channel_multipliers: channels of each stage over ``base_channels``; one stage halves the
            side of the one before.
        embed_dim: channels between encoder, quantizer and decoder.
        res_blocks: residual blocks per stage.
        attn_resolutions: sides at which every residual block is followed by attention.
        norm_first: whether the decoder starts with a GroupNorm (all released weights do).
        norm_groups: groups of every GroupNorm. With few channels, 32 groups are one or two channels
            each, and take an image's brightness and contrast away.
    """

    code_dim: int
    image_size: int
    base_channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    embed_dim: int = 256
    res_blocks: int = 2
    attn_resolutions: tuple[int, ...] = (16,)
    norm_first: bool = True
    norm_groups: int = 32

    def __post_init__(self) -> None:
        # YAML and JSON give lists; a frozen configuration holds tuples.
        object.__setattr__(self, "channel_multipliers", tuple(self.channel_multipliers))
        object.__setattr__(self, "attn_resolutions", tuple(self.attn_resolutions))
        check_positive_ints(
            self,
            *("code_dim", "image_size", "base_channels", "embed_dim", "res_blocks", "norm_groups"),
        )
        require(
            len(self.channel_multipliers) > 0
            and all(isinstance(m, int) and m >= 1 for m in self.channel_multipliers),
            "BinaryAutoencoderConfig.channel_multipliers must be positive integers, one a stage; "
            f"got {self.channel_multipliers!r}.",
        )
        for name in ("base_channels", "embed_dim"):
            require(
                getattr(self, name) % self.norm_groups == 0,
                f"BinaryAutoencoderConfig.{name}={getattr(self, name)} must be a multiple of "
                f"norm_groups={self.norm_groups}, the number of GroupNorm groups.",
            )
        require(
            self.image_size % self.downsampling == 0,
            f"BinaryAutoencoderConfig.image_size={self.image_size} must be a multiple of "
            f"{self.downsampling}, which {len(self.channel_multipliers)} stages downsample by.",
        )

    @property
    def downsampling(self) -> int:
        """Pixels per token, along one side."""
        return 2 ** (len(self.channel_multipliers) - 1)

    @property
    def grid_size(self) -> int:
        """Side of the token grid."""
        return self.image_size // self.downsampling
