"""Number of floating-point operations of training and sampling, in closed form.

Only matrix products are counted, an addition and a multiplication as two operations. All the rest
(normalisation, activations, rotary embedding) is below 1% of the total.

Shapes: N tokens, L = N + 1 positions, D width of the transformer, F hidden width of its
feed-forward networks, W width of the denoiser, K bits.
"""

from __future__ import annotations

import math

from bigr.models.config import BiGRConfig
from bigr.models.denoiser import FREQUENCY_DIM
from bigr.models.training_draws import training_mask_count


def transformer_flops(config: BiGRConfig, num_computed: int | None = None) -> float:
    """Return the operations of one forward pass of the transformer for one image.

    Each layer takes 2 A (4 D^2 + 3 D F) for its linear layers and 4 A L D for attention. The
    embedding of the tokens takes 2 N K D, and the modulation, which the layers share, 12 D^2.

    Args:
        config: configuration of the generator.
        num_computed: number A of positions that the pass computes, see
            :mod:`bigr.models.key_value_memory`; None means all L.
    """
    positions, dim, hidden = config.seq_len + 1, config.dim, config.feed_forward_dim
    computed = positions if num_computed is None else num_computed
    layer = 2 * computed * (4 * dim**2 + 3 * dim * hidden) + 4 * computed * positions * dim
    return config.num_layers * layer + 2 * config.seq_len * config.code_dim * dim + 12 * dim**2


def denoiser_flops(config: BiGRConfig) -> float:
    """Return the operations of one forward pass of the denoiser for one token.

    These are 2 W (K + D + 256 + W) for the bits, the condition and the time, 2 W (2 W + 3 W) for
    each block with its modulation, and 2 W (2 W + O) for the output with its modulation, where the
    number of outputs O is K without a softmax.
    """
    width, bits = config.denoiser_dim, config.code_dim
    inputs = 2 * width * (bits + config.dim + FREQUENCY_DIM + width)
    blocks = config.denoiser_blocks * 2 * width * (2 * width + 3 * width)
    return inputs + blocks + 2 * width * (2 * width + config.num_outputs)


def chain_flops(config: BiGRConfig, num_steps: int) -> float:
    """Return the operations of a denoising chain of ``num_steps`` steps for one token.

    For a softmax, the groups of bits are the steps.

    As in :func:`denoiser_flops`, but the condition is embedded once for all steps (2 W D), and the
    times are embedded once for all tokens, which is not counted.
    """
    width, bits = config.denoiser_dim, config.code_dim
    outputs = config.num_outputs
    step = 2 * width * (bits + config.denoiser_blocks * 5 * width + 2 * width + outputs)
    return 2 * width * config.dim + num_steps * step


def mean_masked_share(config: BiGRConfig) -> float:
    """Return the expected share of predicted tokens in training: about 2 / pi, or 1 if causal."""
    length = config.seq_len
    if config.attention == "causal":
        return 1.0
    return math.fsum(training_mask_count(length, s) for s in range(length)) / length**2


def training_flops(config: BiGRConfig, *, masked_share: float = 1.0, num_levels: int = 1) -> float:
    """Return the operations of one training step for one image.

    The backward pass takes twice as many as the forward pass, except in layers whose inputs need no
    gradient: those of the bits and of the time.

    Args:
        config: configuration of the generator.
        masked_share: share of the tokens that the transcoder computes.
        num_levels: noise levels of each token; its condition is embedded once, and so are the
            times of a softmax for all tokens, which are not counted.
    """
    width, tokens = config.denoiser_dim, config.seq_len * masked_share
    unneeded = 2 * config.seq_len * config.code_dim * config.dim
    unneeded_per_level = 2 * width * (config.code_dim + FREQUENCY_DIM)
    per_token = 3 * 2 * width * config.dim
    per_level = 3 * denoiser_flops(config) - per_token - unneeded_per_level
    if config.objective == "categorical":
        num_levels = config.num_groups
        per_level -= 2 * width * (2 * FREQUENCY_DIM + 3 * width)
    transformer = 3 * transformer_flops(config) - unneeded
    return transformer + tokens * (per_token + num_levels * per_level)
