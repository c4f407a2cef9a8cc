"""The released checkpoint layouts: names of tensors in both directions, and configurations.

A released generator contains its denoiser twice, and the tables of the noise schedule. The file of
a released B-AE also contains the discriminator, and a perceptual network that is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from bigr.models.config import BiGRConfig, BinaryAutoencoderConfig
from bigr.models.discriminator import DiscriminatorConfig

Names = tuple[tuple[str, str], ...]

HEAD_DIM = 64
"""Width of a head in all released generators; it does not follow from the shapes."""

# Pairs of (our prefix, released prefix) of the names of tensors; # is the number of a block.
GENERATOR_NAMES: Names = (
    ("transformer.mask_token", "mask_tok"),
    ("transformer.position_table", "diffusion_pos_embed_learned"),
    ("transformer.class_embedding.", "cls_embedding.embedding_table."),
    ("transformer.token_embedding.", "tok_embeddings."),
    ("transformer.modulation.", "adaLN.1."),
    ("transformer.norm.", "norm."),
    ("transformer.layers.#.modulation_offset", "layers.#.ada_gss"),
    ("transformer.layers.#.attention_norm.", "layers.#.attention_norm."),
    ("transformer.layers.#.attention.qkv.", "layers.#.attention.wqkv."),
    ("transformer.layers.#.attention.out.", "layers.#.attention.wo."),
    ("transformer.layers.#.feed_forward_norm.", "layers.#.ffn_norm."),
    ("transformer.layers.#.feed_forward.gate.", "layers.#.feed_forward.w1."),
    ("transformer.layers.#.feed_forward.up.", "layers.#.feed_forward.w3."),
    ("transformer.layers.#.feed_forward.down.", "layers.#.feed_forward.w2."),
    ("transcoder.denoiser.time_embedding.", "denoise_mlp.t_embedder.mlp."),
    ("transcoder.denoiser.input.", "denoise_mlp.x_embedder."),
    ("transcoder.denoiser.condition.", "denoise_mlp.c_embedder."),
    ("transcoder.denoiser.output_modulation.", "denoise_mlp.final_layer.adaLN_modulation.1."),
    ("transcoder.denoiser.output.", "denoise_mlp.final_layer.linear."),
    ("transcoder.denoiser.blocks.#.modulation.", "denoise_mlp.blocks.#.adaLN_modulation.1."),
    ("transcoder.denoiser.blocks.#.mlp.", "denoise_mlp.blocks.#.mlp."),
)
AUTOENCODER_NAMES: Names = (
    ("encoder.", "encoder."),
    ("quantizer.proj.", "quantize.proj.0."),
    ("quantizer.embedding.", "quantize.embed."),
    ("decoder.log_sigma.", "generator.logsigma."),
    ("decoder.", "generator."),
)
AUTOENCODER_LEAF_NAMES: Names = (
    (".skip.", ".conv_out."),
    (".query.", ".q."),
    (".key.", ".k."),
    (".value.", ".v."),
    (".out.", ".proj_out."),
)
DISCRIMINATOR_NAMES: Names = (("layers.", "main."),)

DENOISER = "denoise_mlp."
DENOISER_COPY = "diffusion_processor._denoise_fn."
SCHEDULE = "diffusion_processor.scheduler."
"""Prefix of the tables of the noise schedule, which this project computes in closed form."""


def _rename(name: str, names: Names, *, to_released: bool) -> str | None:
    """Exchange the prefix of ``name``, or return None if it is not in ``names``."""
    for ours, released in names:
        old, new = (ours, released) if to_released else (released, ours)
        match = re.match(re.escape(old).replace(r"\#", r"(\d+)"), name)
        if match:
            return new.replace("#", "".join(match.groups())) + name[match.end() :]
    return None


def _required(name: str, renamed: str | None) -> str:
    if renamed is None:
        raise KeyError(name)
    return renamed


def _swap_leaf(name: str, *, to_released: bool) -> str:
    for ours, released in AUTOENCODER_LEAF_NAMES:
        old, new = (ours, released) if to_released else (released, ours)
        if old in name:
            return name.replace(old, new)
    return name


def generator_from_released(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return released generator tensors under our names; unknown names are kept.

    The second copy of the denoiser and the tables of the schedule are left out.
    """
    ours: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.startswith((SCHEDULE, DENOISER_COPY)):
            continue
        target = _rename(name, GENERATOR_NAMES, to_released=False)
        if target is not None and target.endswith("modulation_offset") and tensor.shape[:1] == (1,):
            tensor = tensor[0]  # (1, 1, 6, dim) in the released files
        ours[target or name] = tensor
    return ours


def generator_to_released(
    weights: Mapping[str, Tensor], num_diffusion_steps: int
) -> dict[str, Tensor]:
    """Return our generator tensors under the released names, with all copies and tables."""
    released: dict[str, Tensor] = {}
    copy: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        target = _required(name, _rename(name, GENERATOR_NAMES, to_released=True))
        released[target] = tensor[None] if target.endswith("ada_gss") else tensor
        if target.startswith(DENOISER):
            copy[DENOISER_COPY + target.removeprefix(DENOISER)] = tensor
    return {**released, **copy, **schedule_tables(num_diffusion_steps)}


def schedule_tables(num_diffusion_steps: int) -> dict[str, Tensor]:
    """Compute the float32 tables of the released noise schedule; index 0 means no noise."""
    t = torch.arange(num_diffusion_steps + 1, dtype=torch.float64)
    keep = 1.0 - t / num_diffusion_steps
    beta = torch.ones_like(t)
    beta[1:] = (num_diffusion_steps - t[1:]) / (num_diffusion_steps - t[1:] + 1)
    # The released code multiplies the rounded factors. This gives exactly the same bits.
    cumulative = torch.cumprod(beta.float().double(), dim=0)
    tables = {"k_final": keep, "b_final": (1.0 - keep) / 2, "beta": beta, "cumbeta": cumulative}
    return {SCHEDULE + name: table.float() for name, table in tables.items()}


def autoencoder_from_released(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return released B-AE tensors (without the prefix ``ae.``) under our names."""
    ours = {}
    for name, tensor in weights.items():
        target = _rename(name, AUTOENCODER_NAMES, to_released=False)
        ours[_swap_leaf(target, to_released=False) if target else name] = tensor
    return ours


def autoencoder_to_released(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our B-AE tensors under the released names, without the prefix ``ae.``."""
    released = {}
    for name, tensor in weights.items():
        target = _required(name, _rename(name, AUTOENCODER_NAMES, to_released=True))
        released[_swap_leaf(target, to_released=True)] = tensor
    return released


def discriminator_from_released(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return released discriminator tensors (without the prefix ``disc.``) under our names."""
    return {
        _rename(name, DISCRIMINATOR_NAMES, to_released=False) or name: tensor
        for name, tensor in weights.items()
    }


def discriminator_to_released(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our discriminator tensors under the released names, without ``disc.``."""
    return {
        _rename(name, DISCRIMINATOR_NAMES, to_released=True) or name: tensor
        for name, tensor in weights.items()
    }


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """Count the different numbers that ``pattern`` finds in the names."""
    return len({match[1] for name in weights if (match := re.match(pattern, name))})


def infer_generator_config(weights: Mapping[str, Tensor]) -> BiGRConfig:
    """Infer the configuration of a generator from its tensors, assuming heads of width 64.

    Raises:
        KeyError: if a tensor that determines a size is missing.
    """
    dim, code_dim = weights["transformer.token_embedding.weight"].shape
    return BiGRConfig(
        dim=dim,
        num_layers=_count(weights, r"transformer\.layers\.(\d+)\."),
        num_heads=max(1, dim // HEAD_DIM),
        grid_size=round(weights["transformer.position_table"].shape[1] ** 0.5),
        code_dim=code_dim,
        num_classes=weights["transformer.class_embedding.weight"].shape[0] - 1,
        denoiser_dim=weights["transcoder.denoiser.input.weight"].shape[0],
        denoiser_blocks=_count(weights, r"transcoder\.denoiser\.blocks\.(\d+)\."),
    )


def infer_autoencoder_config(weights: Mapping[str, Tensor]) -> BinaryAutoencoderConfig:
    """Infer the configuration of a B-AE from its tensors.

    Residual blocks of the encoder belong to a stage that ends with a downsampling block. Released
    models have attention at the resolution 16, so the stage with attention determines the image
    size. A model without such a stage is the one for 512x512 pixels.

    Raises:
        KeyError: if a tensor that determines a size is missing.
    """
    # 1. Sizes that a single tensor has.
    code_dim, embed_dim = weights["quantizer.embedding.weight"].shape
    base_channels = weights["encoder.blocks.0.weight"].shape[0]
    num_blocks = _count(weights, r"encoder\.blocks\.(\d+)\.")
    kinds = [_block_kind(weights, index) for index in range(num_blocks)]
    # 2. Channels of the residual blocks of each stage, and the stages with attention.
    stages: list[list[int]] = [[]]
    attention_stages: set[int] = set()
    for index in range(1, num_blocks - 5):  # the last five are the middle, norm and conv
        if kinds[index] == "down":
            stages.append([])
        elif kinds[index] == "attention":
            attention_stages.add(len(stages) - 1)
        else:
            stages[-1].append(weights[f"encoder.blocks.{index}.conv1.weight"].shape[0])
    # 3. The resolution of the image.
    downsampling = 2 ** (len(stages) - 1)
    factors = [2**stage for stage in sorted(attention_stages)]
    image_size = 16 * factors[-1] if factors else 32 * downsampling
    attn_resolutions = tuple(image_size // factor for factor in factors) or (16,)
    return BinaryAutoencoderConfig(
        code_dim=code_dim,
        image_size=image_size,
        base_channels=base_channels,
        channel_multipliers=tuple(stage[0] // base_channels for stage in stages),
        embed_dim=embed_dim,
        res_blocks=len(stages[0]),
        attn_resolutions=attn_resolutions,
        norm_first=weights["decoder.blocks.0.weight"].ndim == 1,
    )


def infer_discriminator_config(weights: Mapping[str, Tensor]) -> DiscriminatorConfig:
    """Infer the configuration of a discriminator from its tensors under our names."""
    last = max(int(name.split(".")[1]) for name in weights)  # conv, act, n * (conv, BN, act), conv
    return DiscriminatorConfig(
        base_channels=weights["layers.0.weight"].shape[0], num_layers=(last - 2) // 3
    )


def _block_kind(weights: Mapping[str, Tensor], index: int) -> str:
    prefix = f"encoder.blocks.{index}."
    if f"{prefix}conv1.weight" in weights:
        return "residual"
    if f"{prefix}query.weight" in weights:
        return "attention"
    return "down" if f"{prefix}conv.weight" in weights else "plain"
