"""Floating-point operations of training and sampling, in closed form.

A multiplication and an addition are two operations; normalisation, activations and rotary
embedding are left out (below 1% of the sum). Shapes: N tokens, L = N + 1 positions, D width, F
hidden width of the feed-forward, W width of the denoiser, K bits.
"""

from __future__ import annotations

import math

from bigr.models.config import BiGRConfig
from bigr.models.denoiser import FREQUENCY_DIM
from bigr.models.training_draws import training_mask_count


def transformer_flops(config: BiGRConfig, num_computed: int | None = None) -> float:
    """Operations of the transformer's forward pass for one image.

    Per layer 2 A (3 D^2 + D^2 + 3 D F) for the projections and 4 A L D for attention; besides
    2 N K D for the tokens and 12 D^2 for the shared modulation.

    Args:
        config: of the generator.
        num_computed: A, positions that are computed; None for all L.
    """
    positions, dim, hidden = config.seq_len + 1, config.dim, config.feed_forward_dim
    computed = positions if num_computed is None else num_computed
    layer = 2 * computed * (4 * dim**2 + 3 * dim * hidden) + 4 * computed * positions * dim
    return config.num_layers * layer + 2 * config.seq_len * config.code_dim * dim + 12 * dim**2


def denoiser_flops(config: BiGRConfig) -> float:
    """Operations of the denoiser's forward pass for one token.

    2 W (K + D + 256 + W) for its inputs, 2 W (2 W + 3 W) per block, 2 W (2 W + K) for its output.
    """
    width, bits = config.denoiser_dim, config.code_dim
    inputs = 2 * width * (bits + config.dim + FREQUENCY_DIM + width)
    blocks = config.denoiser_blocks * 2 * width * (2 * width + 3 * width)
    return inputs + blocks + 2 * width * (2 * width + bits)


def chain_flops(config: BiGRConfig, num_steps: int) -> float:
    """Operations of the denoiser for one token at inference; the condition enters once.

    2 W D, and in each of ``num_steps`` steps 2 W K and 2 W (2 W + 3 W) per block and 2 W (2 W + K).
    """
    width, bits = config.denoiser_dim, config.code_dim
    step = 2 * width * (bits + config.denoiser_blocks * 5 * width + 2 * width + bits)
    return 2 * width * config.dim + num_steps * step


def mean_masked_share(config: BiGRConfig) -> float:
    """Expected share of masked tokens in training, about 2 / pi."""
    length = config.seq_len
    return math.fsum(training_mask_count(length, s) for s in range(length)) / length**2


def training_flops(config: BiGRConfig, *, masked_share: float = 1.0) -> float:
    """Operations of a training step for one image.

    The backward pass costs twice the forward pass, except for inputs that need no gradient: bits
    and frequencies.

    Args:
        config: of the generator.
        masked_share: share of the tokens that pass through the transcoder.
    """
    width, tokens = config.denoiser_dim, config.seq_len * masked_share
    unneeded = 2 * config.seq_len * config.code_dim * config.dim
    unneeded_per_token = 2 * width * (config.code_dim + FREQUENCY_DIM)
    transformer = 3 * transformer_flops(config) - unneeded
    return transformer + tokens * (3 * denoiser_flops(config) - unneeded_per_token)
