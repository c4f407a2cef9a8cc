"""Names, shapes and sizes in the released checkpoints, both ways.

The released generator holds its denoiser twice and the noise schedule's tables; the B-AE file
holds the discriminator, and a perceptual network that is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from bigr.models.config import BiGRConfig, BinaryAutoencoderConfig
from bigr.models.discriminator import DiscriminatorConfig

HEAD_DIM = 64
"""Head width of every released generator; it can't be read from the shapes."""

# (ours, released), applied to prefixes of tensor names.
TRANSFORMER_NAMES = (
    ("transformer.mask_token", "mask_tok"),
    ("transformer.position_table", "diffusion_pos_embed_learned"),
    ("transformer.class_embedding.", "cls_embedding.embedding_table."),
    ("transformer.token_embedding.", "tok_embeddings."),
    ("transformer.modulation.", "adaLN.1."),
    ("transformer.norm.", "norm."),
)
LAYER_NAMES = (
    ("modulation_offset", "ada_gss"),
    ("attention_norm.", "attention_norm."),
    ("attention.qkv.", "attention.wqkv."),
    ("attention.out.", "attention.wo."),
    ("feed_forward_norm.", "ffn_norm."),
    ("feed_forward.gate.", "feed_forward.w1."),
    ("feed_forward.up.", "feed_forward.w3."),
    ("feed_forward.down.", "feed_forward.w2."),
)
DENOISER_NAMES = (
    ("time_embedding.", "t_embedder.mlp."),
    ("input.", "x_embedder."),
    ("condition.", "c_embedder."),
    ("output_modulation.", "final_layer.adaLN_modulation.1."),
    ("output.", "final_layer.linear."),
)
DENOISER_BLOCK_NAMES = (
    ("modulation.", "adaLN_modulation.1."),
    ("mlp.", "mlp."),
)
AUTOENCODER_NAMES = (
    ("encoder.", "encoder."),
    ("quantizer.proj.", "quantize.proj.0."),
    ("quantizer.embedding.", "quantize.embed."),
    ("decoder.log_sigma.", "generator.logsigma."),
    ("decoder.", "generator."),
)
AUTOENCODER_LEAF_NAMES = (
    (".skip.", ".conv_out."),
    (".query.", ".q."),
    (".key.", ".k."),
    (".value.", ".v."),
    (".out.", ".proj_out."),
)

DENOISER = "transcoder.denoiser."
DENOISER_COPIES = ("denoise_mlp.", "diffusion_processor._denoise_fn.")
SCHEDULE = "diffusion_processor.scheduler."
"""Prefix of the noise schedule's tables, which we compute in closed form."""


def _swap_prefix(name: str, pairs: tuple[tuple[str, str], ...], *, reverse: bool) -> str | None:
    for ours, released in pairs:
        old, new = (released, ours) if reverse else (ours, released)
        if name.startswith(old):
            return new + name[len(old) :]
    return None


def _swap_indexed(
    name: str, prefix: str, pairs: tuple[tuple[str, str], ...], *, reverse: bool
) -> str | None:
    match = re.fullmatch(rf"{re.escape(prefix)}(\d+\.)(.+)", name)
    rest = _swap_prefix(match[2], pairs, reverse=reverse) if match else None
    return None if match is None or rest is None else match[1] + rest


def _denoiser_name(name: str, *, reverse: bool) -> str | None:
    block = _swap_indexed(name, "blocks.", DENOISER_BLOCK_NAMES, reverse=reverse)
    if block is not None:
        return f"blocks.{block}"
    return _swap_prefix(name, DENOISER_NAMES, reverse=reverse)


def _transformer_name(name: str, *, reverse: bool) -> str | None:
    ours, released = "transformer.layers.", "layers."
    old, new = (released, ours) if reverse else (ours, released)
    layer = _swap_indexed(name, old, LAYER_NAMES, reverse=reverse)
    if layer is not None:
        return new + layer
    return _swap_prefix(name, TRANSFORMER_NAMES, reverse=reverse)


def generator_from_released(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released generator tensors under our names; unknown names are kept as they are.

    The second copy of the denoiser and the schedule's tables are left out.
    """
    ours: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        first, second = DENOISER_COPIES
        if name.startswith((SCHEDULE, second)):
            continue
        if name.startswith(first):
            inner = _denoiser_name(name[len(first) :], reverse=True)
            target = None if inner is None else DENOISER + inner
        else:
            target = _transformer_name(name, reverse=True)
        if target is not None and target.endswith("modulation_offset"):
            tensor = tensor.flatten(0, 1)  # (1, 1, 6, dim) in the released files
        ours[target or name] = tensor
    return ours


def generator_to_released(
    weights: Mapping[str, Tensor], num_diffusion_steps: int
) -> dict[str, Tensor]:
    """Our generator tensors under the released names, with the copies the released code wants."""
    released: dict[str, Tensor] = {}
    copy: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.startswith(DENOISER):
            inner = _denoiser_name(name[len(DENOISER) :], reverse=False)
            if inner is None:
                raise KeyError(name)
            released[DENOISER_COPIES[0] + inner] = tensor
            copy[DENOISER_COPIES[1] + inner] = tensor
            continue
        target = _transformer_name(name, reverse=False)
        if target is None:
            raise KeyError(name)
        released[target] = tensor[None] if target.endswith("ada_gss") else tensor
    return {**released, **copy, **schedule_tables(num_diffusion_steps)}


def schedule_tables(num_diffusion_steps: int) -> dict[str, Tensor]:
    """The released noise schedule's float32 tables, index 0 = no noise."""
    t = torch.arange(num_diffusion_steps + 1, dtype=torch.float64)
    keep = 1.0 - t / num_diffusion_steps
    beta = torch.ones_like(t)
    beta[1:] = (num_diffusion_steps - t[1:]) / (num_diffusion_steps - t[1:] + 1)
    # The released tables hold the product of the *rounded* factors; bit for bit the same here.
    cumulative = torch.cumprod(beta.float().double(), dim=0)
    tables = {"k_final": keep, "b_final": (1.0 - keep) / 2, "beta": beta, "cumbeta": cumulative}
    return {SCHEDULE + name: table.float() for name, table in tables.items()}


def _swap_leaf(name: str, *, reverse: bool) -> str:
    for ours, released in AUTOENCODER_LEAF_NAMES:
        old, new = (released, ours) if reverse else (ours, released)
        if old in name:
            return name.replace(old, new)
    return name


def autoencoder_from_released(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released B-AE tensors (without their ``ae.`` prefix) under our names."""
    ours = {}
    for name, tensor in weights.items():
        target = _swap_prefix(name, AUTOENCODER_NAMES, reverse=True)
        ours[_swap_leaf(target, reverse=True) if target else name] = tensor
    return ours


def autoencoder_to_released(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our B-AE tensors under the released names, without the ``ae.`` prefix."""
    released = {}
    for name, tensor in weights.items():
        target = _swap_prefix(name, AUTOENCODER_NAMES, reverse=False)
        if target is None:
            raise KeyError(name)
        released[_swap_leaf(target, reverse=False)] = tensor
    return released


def discriminator_from_released(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released discriminator tensors (without their ``disc.`` prefix) under our names."""
    return {re.sub(r"^main\.", "layers.", name): tensor for name, tensor in weights.items()}


def discriminator_to_released(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our discriminator tensors under the released names, without the ``disc.`` prefix."""
    return {re.sub(r"^layers\.", "main.", name): tensor for name, tensor in weights.items()}


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    found = {match[1] for name in weights if (match := re.match(pattern, name))}
    return len(found)


def infer_generator_config(weights: Mapping[str, Tensor]) -> BiGRConfig:
    """Sizes of a generator from its tensors under our names (head width taken as 64).

    Raises:
        KeyError: if a tensor that a size is read from is missing.
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
    """Sizes of a B-AE from its tensors under our names.

    The encoder's blocks are walked in order: a residual block opens or continues a stage, a
    downsampling block closes it, attention outside the middle tells the side it stands at. Where
    no stage has attention (the 512x512 model) the image size follows from the published one.

    Raises:
        KeyError: if a tensor that a size is read from is missing.
    """
    code_dim, embed_dim = weights["quantizer.embedding.weight"].shape
    base_channels = weights["encoder.blocks.0.weight"].shape[0]
    num_blocks = _count(weights, r"encoder\.blocks\.(\d+)\.")
    kinds = [_block_kind(weights, index) for index in range(num_blocks)]
    stages: list[list[int]] = [[]]
    attention_stages: set[int] = set()
    for index in range(1, num_blocks - 5):  # the last five: residual, attention, residual, GN, conv
        if kinds[index] == "down":
            stages.append([])
        elif kinds[index] == "attention":
            attention_stages.add(len(stages) - 1)
        else:
            stages[-1].append(weights[f"encoder.blocks.{index}.conv1.weight"].shape[0])
    downsampling = 2 ** (len(stages) - 1)
    # Released models attend at side 16; without such a stage, the image is the 512x512 one.
    sides_down = [2**stage for stage in sorted(attention_stages)]
    image_size = 16 * sides_down[-1] if sides_down else 32 * downsampling
    attn_resolutions = tuple(image_size // factor for factor in sides_down) or (16,)
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
    """Sizes of a discriminator from its tensors under our names."""
    last = max(int(name.split(".")[1]) for name in weights)  # conv, act, (conv, BN, act)*, conv
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
