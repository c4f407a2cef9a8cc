"""Bytes and FLOP of a training step and of sampling on a GPU, in closed form from the sizes.

An operation reads its inputs from memory and writes its result. Counted are the operations of eager
PyTorch on CUDA with bfloat16 autocast, and fused ones, where every chain of operations between two
products reads its inputs once and writes its results once. ``tests/gpuless/test_roofline.py``
compares the numbers with those of PyTorch's operators, and ``bench/roofline.py`` prints the times.

Letters: B images, N tokens, L = N + 1 positions, D width of the transformer, F width of its
feed-forward networks, M predicted tokens, W width of the denoiser, K bits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from bench.scaling import UPDATE_BYTES, Gpu
from bigr import BiGR, BiGRConfig
from bigr.models.denoiser import FREQUENCY_DIM
from bigr.models.flops import mean_masked_share

HALF, FULL = 2, 4
"""Bytes of a number in bfloat16 and in float32."""
CAST = HALF + FULL
FORWARD, BACKWARD, UPDATE = "forward", "backward", "update"


class Work(NamedTuple):
    """Something that a GPU computes in one phase of a step."""

    part: str
    phase: str
    flops: float
    bytes: float
    fused: float
    """Bytes if operations are fused."""

    def seconds(self, gpu: Gpu, *, is_fused: bool = False) -> float:
        """Return the least time on a GPU."""
        moved = self.fused if is_fused else self.bytes
        return max(self.flops / gpu.flops, moved / gpu.memory_rate)


class Passes(NamedTuple):
    """Operations that are not products: bytes for each element of their largest tensor."""

    part: str
    forward: float
    backward: float
    fused_forward: float
    fused_backward: float

    def works(self, elements: float) -> list[Work]:
        """Return both phases for a number of elements."""
        return [
            Work(self.part, FORWARD, 0, self.forward * elements, self.fused_forward * elements),
            Work(self.part, BACKWARD, 0, self.backward * elements, self.fused_backward * elements),
        ]


NORMS, CASTS, WEIGHT_CASTS = "norms and modulation", "casts of activations", "casts of weights"
PRODUCTS, ATTENTION = "products of the transformer", "attention"
SMALL_PRODUCTS = "products of the transcoder"
SMALL_PASSES = "norms, gates and casts of the transcoder"
EMBEDDINGS = "embeddings and gathering"

# The residual stream is float32, because gates are. A product or sum of two float32 tensors moves
# 12 bytes per element, one with a vector 8, a sum over rows 4, and a cast 6.
NORM_PASSES = Passes(
    NORMS,
    # Statistics and division 8, weight 8, shift 8, scale 12.
    36,
    # Scale 8 + 8 + 12 + 4, shift 4, sum of both 12, weight 12 + 4 + 8, statistics 12.
    84,
    # The chain with the residual also writes the product's input; backward, it reads x and the
    # gradients, of which there are three for two norms.
    2,
    7,
)
LAYER_PASSES = (
    # Casts before the query, the gate and the upper product; of gradients, also after the gate.
    Passes(CASTS, 18, 42, 0, 0),
    # Each of two: gate 6, sum 12; backward: gate 8, its gradient 10 + 4, sum of gradients 12.
    Passes("residuals and gates", 36, 68, 20, 24),
    # Each of two: reads and writes bfloat16, and a mask of one byte.
    Passes("dropout", 10, 10, 2, 2),
    # Query and key: cast 6, complex product 8, cast 6; backward also gathers three gradients.
    Passes("rotary embedding", 40, 52, 8, 12),
)
SWIGLU = Passes("SwiGLU", 10, 18, 6, 12)
# Mask tokens and concatenation 8, position table 8; backward 20 and 18.
INPUTS = Passes(EMBEDDINGS, 8, 14, 6, 6)
OUTPUTS = Passes(EMBEDDINGS, 8, 24, 2, 4)
# Conditions of the predicted tokens.
GATHERED = Passes(EMBEDDINGS, 8, 4, 6, 6)
# Casts and 1 + scale 26, norm 8, modulation 16, cast 6, SiLU 4, residual 8; and their gradients.
BLOCK_PASSES = Passes(SMALL_PASSES, 68, 126, 18, 30)
# As in a block, without SiLU and residual.
LAST_PASSES = Passes(SMALL_PASSES, 56, 90, 8, 14)
# Sum of time and condition, two SiLU, and casts.
FIRST_PASSES = Passes(SMALL_PASSES, 20, 22, 16, 14)
# Cosines and sines of the noise levels.
WAVES = Passes(SMALL_PASSES, 24, 0, 4, 0)
# Random numbers, noisy bits and the loss, for each bit of a predicted token: about that much.
BITS = Passes("draws, loss and logging", 150, 60, 30, 10)


def product(
    part: str,
    rows: float,
    inputs: int,
    outputs: int,
    count: int = 1,
    *,
    has_bias: bool = False,
    is_first: bool = False,
) -> list[Work]:
    """Return what ``count`` linear layers take.

    The product, the gradient of its input, which a layer that ``is_first`` does not need, and that
    of its weight all touch the same three matrices, and take the same FLOP. Autocast converts the
    weight to bfloat16, and its gradient back.
    """
    weight = count * inputs * outputs
    flops = 2 * rows * weight
    size = HALF * (count * rows * (inputs + outputs) + weight)
    times = 1 if is_first else 2
    found = [
        Work(part, FORWARD, flops, size, size),
        Work(part, BACKWARD, times * flops, times * size, times * size),
    ]
    for phase in (FORWARD, BACKWARD):
        found.append(Work(WEIGHT_CASTS, phase, 0, CAST * weight, CAST * weight))
    if has_bias:
        summed = HALF * count * rows * outputs
        found.append(Work(part, BACKWARD, 0, summed, summed))
    return found


def attention(config: BiGRConfig, batch: int) -> list[Work]:
    """Return what flash attention takes in all layers; its backward pass computes scores again."""
    length, heads = config.seq_len + 1, config.num_heads
    rows = config.num_layers * batch * length
    square, sums = rows * length * config.dim, FULL * rows * heads
    small, large = 4 * HALF * rows * config.dim + sums, 8 * HALF * rows * config.dim + sums
    return [
        Work(ATTENTION, FORWARD, 4 * square, small, small),
        Work(ATTENTION, BACKWARD, 10 * square, large, large),
    ]


def transformer(config: BiGRConfig, batch: int) -> list[Work]:
    """Return what the transformer takes for ``batch`` rows of codes."""
    dim, hidden, layers = config.dim, config.feed_forward_dim, config.num_layers
    tokens, rows = batch * config.seq_len, batch * (config.seq_len + 1)
    found = [
        *product(PRODUCTS, tokens, config.code_dim, dim, has_bias=True, is_first=True),
        *product(PRODUCTS, batch, dim, 6 * dim, has_bias=True),
        *product(PRODUCTS, rows, dim, 3 * dim, layers),
        *product(PRODUCTS, rows, dim, dim, layers),
        *product(PRODUCTS, rows, dim, hidden, 2 * layers),
        *product(PRODUCTS, rows, hidden, dim, layers),
        *attention(config, batch),
        *NORM_PASSES.works(2 * layers * rows * dim),
        # The last norm has no modulation.
        *Passes(NORMS, 16, 36, 8, 12).works(rows * dim),
        *SWIGLU.works(layers * rows * hidden),
        *INPUTS.works(rows * dim),
        *OUTPUTS.works(tokens * dim),
    ]
    for passes in LAYER_PASSES:
        found += passes.works(layers * rows * dim)
    return found


def transcoder(config: BiGRConfig, tokens: float) -> list[Work]:
    """Return what the transcoder takes for ``tokens`` predicted tokens in training."""
    width, blocks = config.denoiser_dim, config.denoiser_blocks
    layers = [
        product(SMALL_PRODUCTS, tokens, config.code_dim, width, has_bias=True, is_first=True),
        product(SMALL_PRODUCTS, tokens, FREQUENCY_DIM, width, has_bias=True, is_first=True),
        product(SMALL_PRODUCTS, tokens, width, width, 1 + 2 * blocks, has_bias=True),
        product(SMALL_PRODUCTS, tokens, config.dim, width, has_bias=True),
        product(SMALL_PRODUCTS, tokens, width, 3 * width, blocks, has_bias=True),
        product(SMALL_PRODUCTS, tokens, width, 2 * width, has_bias=True),
        product(SMALL_PRODUCTS, tokens, width, config.num_outputs, has_bias=True),
    ]
    return [
        *(work for works in layers for work in works),
        *FIRST_PASSES.works(tokens * width),
        *BLOCK_PASSES.works(blocks * tokens * width),
        *LAST_PASSES.works(tokens * width),
        *WAVES.works(tokens * FREQUENCY_DIM),
        *GATHERED.works(tokens * config.dim),
        *Passes(CASTS, CAST, CAST, 0, 0).works(tokens * config.dim),
        *BITS.works(tokens * config.code_dim),
    ]


def training_step(config: BiGRConfig, batch: int, num_masked: float | None = None) -> list[Work]:
    """Return what a training step takes; None means the mean number of masked tokens."""
    share = mean_masked_share(config) * config.seq_len
    tokens = batch * (share if num_masked is None else num_masked)
    count = num_weights(config)
    updates = [Work(part, UPDATE, 0, n * count, n * count) for part, n in UPDATE_BYTES.items()]
    return [*transformer(config, batch), *transcoder(config, tokens), *updates]


def num_weights(config: BiGRConfig) -> int:
    """Return the number of parameters of a generator."""
    with torch.device("meta"):
        return sum(p.numel() for p in BiGR(config).parameters())


def transformer_pass(config: BiGRConfig, batch: int) -> list[Work]:
    """Return what the transformer takes in an iteration of sampling with guidance."""
    works = (w for w in transformer(config, 2 * batch) if w.phase == FORWARD)
    return [w for w in works if w.part != "dropout"]


def chain_step(config: BiGRConfig, tokens: int) -> list[Work]:
    """Return what one step of the denoising chain takes with guidance.

    The weights are bfloat16 already, and all modulations are one product. Sums stay in float32.
    """
    width, blocks, rows = config.denoiser_dim, config.denoiser_blocks, 2 * tokens
    parts = 3 * blocks + 2
    products = [
        *product(SMALL_PRODUCTS, tokens, config.code_dim, width),
        *product(SMALL_PRODUCTS, rows, width, parts * width),
        *product(SMALL_PRODUCTS, rows, width, width, 2 * blocks),
        *product(SMALL_PRODUCTS, rows, width, config.num_outputs),
    ]
    # Of each row: sum with the time 8, SiLU 8 and cast 6, casts of the modulation 6 for each part,
    # the input's cast 3 and concatenation 8; of each block norm 8, modulation 16, cast 6, SiLU 4,
    # cast 6 and residual 16; at last norm, modulation and cast 30. The rest is about 110 per bit.
    eager = 63 + 6 * parts + 56 * blocks
    fused = 6 + 22 * blocks + 12
    return [
        *(work for work in products if work.phase == FORWARD and work.part == SMALL_PRODUCTS),
        Work(SMALL_PASSES, FORWARD, 0, eager * rows * width, fused * rows * width),
        Work("bits", FORWARD, 0, 110 * tokens * config.code_dim, 40 * tokens * config.code_dim),
    ]
