"""Small models with weights that matter everywhere (a fresh one starts with zeros)."""

from __future__ import annotations

from typing import Any

import torch

from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.models.config import BiGRConfig, BinaryAutoencoderConfig

TINY = {
    "dim": 32,
    "num_layers": 2,
    "num_heads": 2,
    "grid_size": 4,
    "code_dim": 6,
    "num_classes": 3,
    "denoiser_dim": 24,
    "denoiser_blocks": 2,
    "feed_forward_multiple": 16,
}


def tiny_generator(seed: int = 0, std: float = 0.3, **sizes: Any) -> BiGR:
    """In evaluation mode, all weights drawn from N(0, std)."""
    model = BiGR(BiGRConfig(**{**TINY, **sizes}))
    randomise(model, seed, std)
    return model.eval()


def tiny_autoencoder(seed: int = 0, **sizes: Any) -> BinaryAutoencoder:
    """8x8 pixels, 4x4 tokens of 6 bits."""
    config = {
        "code_dim": 6,
        "image_size": 8,
        "base_channels": 32,
        "channel_multipliers": (1, 1),
        "embed_dim": 32,
        "res_blocks": 1,
        "attn_resolutions": (),
    }
    model = BinaryAutoencoder(BinaryAutoencoderConfig(**{**config, **sizes}))
    randomise(model, seed, 0.1)
    return model.eval()


def randomise(model: torch.nn.Module, seed: int, std: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_scale = name.endswith("norm.weight") or (".norm" in name and "weight" in name)
            parameter.normal_(1.0 if is_scale else 0.0, std, generator=generator)
