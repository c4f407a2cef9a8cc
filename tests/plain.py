"""The same equations again, written to be obviously right and nothing else.

A second implementation of the generator's forward pass, of its training loss and of sampling, in
the order of the paper's text: attention with an all-ones mask, one noise level after the other,
chain products walked step by step, every token denoised in every iteration, guidance halves one
after the other. Oracle of the tests, and the plain side of the benchmarks. Any floating dtype.

Shapes: B images, N tokens, K bits, D width, H heads.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bigr.models.config import BiGRConfig
from bigr.sampling.random_numbers import Noise
from bigr.sampling.sampler_config import SamplerConfig

Weights = Mapping[str, Tensor]
Guide = tuple[Weights, BiGRConfig]


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def layer_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


@functools.cache
def rotations(config: BiGRConfig, dtype: torch.dtype) -> Tensor:
    """(1 + N, C / 2) complex factors; the class token's are zero, so its query and key vanish."""
    half = config.dim // config.num_heads // 2
    frequencies = [config.rope_base ** (-2 * i / half) for i in range(half // 2)]
    factors = [torch.zeros(half, dtype=dtype)]
    for position in range(config.seq_len):
        row, column = divmod(position, config.grid_size)
        angles = [row * f for f in frequencies] + [column * f for f in frequencies]
        turns = torch.tensor(angles, dtype=torch.float64)
        factors.append(torch.polar(torch.ones_like(turns), turns).to(dtype))
    return torch.stack(factors)


def turn(x: Tensor, config: BiGRConfig) -> Tensor:
    """2-D rotary embedding of (B, H, 1 + N, C) as a product of complex numbers."""
    wide = x if x.dtype == torch.float64 else x.float()
    pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rotations(config, pairs.dtype)).flatten(-2).to(x.dtype)


class Remembered(dict[str, Tensor]):
    """Keys and values of every layer, and which positions (B, 1 + N) are computed again."""

    is_fresh: Tensor


def attention(
    weights: Weights, name: str, x: Tensor, config: BiGRConfig, memory: Remembered | None = None
) -> Tensor:
    batch, length, dim = x.shape
    qkv = linear(weights, f"{name}.qkv", x).view(batch, length, 3, config.num_heads, -1)
    query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
    query, key = turn(query, config), turn(key, config)
    if memory is not None:
        is_fresh = memory.is_fresh[:, None, :, None]
        memory[f"{name}.key"] = key = torch.where(is_fresh, key, memory.get(f"{name}.key", key))
        memory[f"{name}.value"] = value = torch.where(
            is_fresh, value, memory.get(f"{name}.value", value)
        )
    visible = torch.ones(length, length, dtype=torch.bool)
    if config.attention == "causal":
        for position in range(length):
            visible[position, position + 1 :] = False
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    return linear(weights, f"{name}.out", mixed.transpose(1, 2).reshape(batch, length, dim))


def feed_forward(weights: Weights, name: str, x: Tensor) -> Tensor:
    gate = F.silu(linear(weights, f"{name}.gate", x))
    return linear(weights, f"{name}.down", gate * linear(weights, f"{name}.up", x))


def condition(
    weights: Weights,
    config: BiGRConfig,
    codes: Tensor,
    class_ids: Tensor,
    is_masked: Tensor,
    memory: Remembered | None = None,
) -> Tensor:
    """(B, N, D); with ``memory`` only right at the positions that it calls fresh."""
    tokens = linear(weights, "transformer.token_embedding", codes)
    if config.attention == "bidirectional":
        tokens = torch.where(is_masked[..., None], weights["transformer.mask_token"], tokens)
    classes = weights["transformer.class_embedding.weight"][class_ids]
    shared = linear(weights, "transformer.modulation", F.silu(classes)).unflatten(-1, (6, -1))
    x = torch.cat([classes[:, None], tokens], dim=1)
    for index in range(config.num_layers):
        name = f"transformer.layers.{index}"
        parts = (shared + weights[f"{name}.modulation_offset"])[:, :, None]
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = parts.unbind(1)
        normed = rms_norm(x, weights[f"{name}.attention_norm.weight"], config.norm_eps)
        modulated = normed * (1 + scale_a) + shift_a
        mixed = attention(weights, f"{name}.attention", modulated, config, memory)
        x = x + gate_a * mixed
        normed = rms_norm(x, weights[f"{name}.feed_forward_norm.weight"], config.norm_eps)
        fed = feed_forward(weights, f"{name}.feed_forward", normed * (1 + scale_f) + shift_f)
        x = x + gate_f * fed
    x = rms_norm(x, weights["transformer.norm.weight"], config.norm_eps)
    if config.attention == "causal":  # the class token predicts the first one, and so on
        return x[:, :-1] + weights["transformer.position_table"]
    return x[:, 1:] + weights["transformer.position_table"]


def denoiser(
    weights: Weights, config: BiGRConfig, x_t: Tensor, t: Tensor, conditions: Tensor
) -> Tensor:
    """Bit logits (M, K), or those of the values of a group of bits (M, V)."""
    name = "transcoder.denoiser"
    frequencies = 10_000.0 ** (-torch.arange(128, dtype=x_t.dtype) / 128)
    angles = (t.to(x_t.dtype) - 1)[:, None] * frequencies
    waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
    hidden = F.silu(linear(weights, f"{name}.time_embedding.0", waves))
    embedding = linear(weights, f"{name}.condition", conditions) + linear(
        weights, f"{name}.time_embedding.2", hidden
    )
    x = linear(weights, f"{name}.input", 2 * x_t - 1)
    for index in range(config.denoiser_blocks):
        block = f"{name}.blocks.{index}"
        shift, scale, gate = linear(weights, f"{block}.modulation", F.silu(embedding)).chunk(3, -1)
        inner = F.silu(linear(weights, f"{block}.mlp.0", layer_norm(x) * (1 + scale) + shift))
        x = x + gate * linear(weights, f"{block}.mlp.2", inner)
    shift, scale = linear(weights, f"{name}.output_modulation", F.silu(embedding)).chunk(2, -1)
    return linear(weights, f"{name}.output", layer_norm(x) * (1 + scale) + shift)


def beta(t: int, num_steps: int) -> float:
    """One noising step keeps a bit with this probability."""
    return 1.0 - 1.0 / (num_steps - t + 1)


def keep(since: int, until: int, num_steps: int) -> float:
    """Product of the steps since+1 .. until, one by one."""
    product = 1.0
    for t in range(since + 1, until + 1):
        product *= beta(t, num_steps)
    return product


def levels(num_denoise_steps: int, num_steps: int, spacing: str = "even") -> list[int]:
    """(1..T)[floor(linspace(0, 1, S) * (T - 1))], reversed; with the squares for quadratic."""
    shares = torch.linspace(0, 1, num_denoise_steps, dtype=torch.float64)
    if spacing == "quadratic":
        shares = shares * shares
    found = [1 + math.floor(float(share * (num_steps - 1))) for share in shares]
    for index in range(1, len(found)):
        while found[index] in found[:index]:  # already visited: the next one that is free
            found[index] += 1
    return found[::-1]


class RandomNoise:
    """Numbers straight from a generator; which token they are for doesn't matter."""

    def __init__(self, batch: int, tokens: int, bits: int, generator: torch.Generator) -> None:
        self.shape, self.bits, self.generator = (batch, tokens), bits, generator

    def bit_uniforms(self, iteration: int, draws: Tensor, tokens: Tensor) -> Tensor:
        return torch.rand(len(draws), len(tokens), self.bits, generator=self.generator)

    def order_uniforms(self, iteration: int) -> Tensor:
        return torch.rand(self.shape, generator=self.generator)


@torch.no_grad()
def token_probs(
    weights: Weights,
    config: BiGRConfig,
    sampler: SamplerConfig,
    conditional: Tensor,
    unconditional: Tensor,
    scale: float,
    noise: Noise,
    iteration: int,
    guide: Guide | None = None,
) -> Tensor:
    """Bit probabilities of every token (M, K), from x_T down to t = 1."""
    other = guide or (weights, config)
    num_steps = config.num_diffusion_steps
    everyone = torch.arange(len(conditional))
    if config.objective == "categorical":
        known = torch.full((len(conditional), config.code_dim), 0.5, dtype=conditional.dtype)
        draws = noise.bit_uniforms(iteration, torch.tensor([0]), everyone)[0]
        if sampler.deterministic_bits:
            draws = torch.full_like(draws, 0.5)
        probs, size = torch.zeros_like(known), config.code_dim // config.num_groups
        values = torch.tensor(list(itertools.product((0.0, 1.0), repeat=size)))
        for group in range(config.num_groups):
            times = torch.full((len(known),), group + 1)
            with_class = denoiser(weights, config, known, times, conditional)
            without = denoiser(weights, config, known, times, unconditional)
            logits = (without + scale * (with_class - without)) / sampler.temperature
            joint = logits.softmax(-1)
            for index in range(size):  # rule out the values that disagree with each bit
                is_one = values[:, index] == 1
                one, total = (joint * is_one).sum(-1), joint.sum(-1)
                k = group * size + index
                probs[:, k] = one / total
                bits = draws[:, k] < probs[:, k]
                known[:, k] = bits.to(known.dtype)
                joint = joint * (is_one == bits[:, None])
        return probs
    if config.objective == "direct":  # one call, at level T, without any bits to look at
        blank = torch.ones(len(conditional), config.code_dim, dtype=conditional.dtype)
        times = torch.full((len(blank),), num_steps)
        with_class = denoiser(weights, config, blank, times, conditional) / sampler.temperature
        without = denoiser(*other, blank, times, unconditional) / sampler.temperature
        if sampler.guidance_levels[1] < 1:
            scale = 1
        return torch.sigmoid(without + scale * (with_class - without))
    steps = levels(sampler.num_denoise_steps, num_steps, sampler.denoise_spacing)
    all_draws = noise.bit_uniforms(iteration, torch.arange(len(steps) + 1), everyone)
    x_t = (all_draws[1] < 0.5).to(conditional.dtype)
    for index, t in enumerate(steps):
        times = torch.full((len(x_t),), t)
        with_class = denoiser(weights, config, x_t, times, conditional) / sampler.temperature
        without = denoiser(*other, x_t, times, unconditional) / sampler.temperature
        lowest, highest = sampler.guidance_levels
        is_guided = lowest <= t / num_steps <= highest
        logits = without + (scale if is_guided else 1) * (with_class - without)
        flips = torch.sigmoid(logits)
        clean = x_t * (1 - flips) + (1 - x_t) * flips if config.objective == "flip" else flips
        if index + 1 == len(steps):
            return clean
        after = steps[index + 1]
        k, b = keep(0, after, num_steps), keep(after, t, num_steps)
        ones = (k * clean + (1 - k) / 2) * (b * x_t + (1 - b) / 2)
        zeros = (k * (1 - clean) + (1 - k) / 2) * (b * (1 - x_t) + (1 - b) / 2)
        x_t = (all_draws[index + 2] < ones / (ones + zeros)).to(conditional.dtype)
    raise AssertionError


def halton_ranks(side: int) -> list[int]:
    """When scipy's Halton points, without the first, come to each cell of the grid."""
    from scipy import stats  # the acceptance run on a GPU does without it

    points = stats.qmc.Halton(2, scramble=False).random(500 * side)[1:]
    cells = [int(row * side) * side + int(column * side) for row, column in points]
    visited = list(dict.fromkeys(cells))
    return [visited.index(cell) for cell in range(side * side)]


def on_lines(values: tuple[float, ...], i: int, num_iterations: int) -> float:
    """Straight lines between ``values`` at even distances from iteration 1 to n, by numpy."""
    places = np.linspace(1, max(num_iterations, 2), len(values))
    return float(np.interp(i, places, values))


def passes(sampler: SamplerConfig, last: int) -> list[tuple[int, int]]:
    """Every iteration, followed by the corrector's rounds 1, 2, … if it has any."""
    found = []
    for i in range(1, last + 1):
        found.append((i, 0))
        first, final = sampler.corrector_interval
        if sampler.corrector_share > 0 and first <= (i - 0.5) / sampler.num_iterations <= final:
            found += [(i, again + 1) for again in range(sampler.corrector_rounds)]
    return found


@torch.no_grad()
def sample(
    weights: Weights,
    config: BiGRConfig,
    sampler: SamplerConfig,
    class_ids: Tensor,
    noise: Noise,
    known_codes: Tensor | None = None,
    is_masked: Tensor | None = None,
    last: int | None = None,
    guide: Guide | None = None,
) -> Tensor:
    """Codes (B, N, K), after iteration ``last`` or all of them."""
    second = class_ids if guide and sampler.conditional_guide else None
    batch, tokens = len(class_ids), config.seq_len
    dtype = weights["transformer.position_table"].dtype
    if config.attention == "causal":
        changes = {"order": "raster", "mask_schedule": "linear", "mask_power": 1.0}
        sampler = dataclasses.replace(
            sampler, num_iterations=tokens, **changes, reuse_decided=False
        )
    codes = torch.zeros(batch, tokens, config.code_dim, dtype=dtype)
    if known_codes is not None:
        codes = known_codes.to(dtype).clone()
    masked = torch.ones(batch, tokens, dtype=torch.bool) if is_masked is None else is_masked.clone()
    totals = masked.sum(1).tolist()
    other = guide or (weights, config)
    null = torch.full_like(class_ids, other[1].num_classes)
    everyone = torch.arange(batch * tokens)
    memories = [Remembered(), Remembered()] if sampler.reuse_decided else [None, None]
    before = torch.ones_like(masked)
    certainty: list[dict[int, float]] = [{} for _ in range(batch)]
    for i, again in passes(sampler, last or sampler.num_iterations):
        number = i + again * sampler.num_iterations
        if again:  # the corrector masks the least certain decided tokens
            for image, decided in enumerate(certainty):
                doubtful = sorted(decided, key=lambda n: (decided[n], n))
                for n in doubtful[: int(sampler.corrector_share * len(decided))]:
                    masked[image, n] = True
                    codes[image, n] = 0
                    del decided[n]
        progress = i / sampler.num_iterations
        scale = sampler.guidance_scale
        if sampler.guidance_schedule == "linear":
            scale = 1 + (scale - 1) * progress
        heated = sampler
        if isinstance(sampler.temperature_schedule, tuple):
            factor = on_lines(sampler.temperature_schedule, i, sampler.num_iterations)
            heated = dataclasses.replace(sampler, temperature=sampler.temperature * factor)
        if sampler.guidance_schedule == "cosine":
            angle = math.pi * ((i - 1) / sampler.num_iterations) ** sampler.guidance_power
            scale = 1 + (scale - 1) * (0.5 - 0.5 * math.cos(angle))
        if isinstance(sampler.guidance_schedule, tuple):
            scale = 1 + (scale - 1) * on_lines(sampler.guidance_schedule, i, sampler.num_iterations)
        first, final = sampler.guidance_interval
        if not first <= (i - 0.5) / sampler.num_iterations <= final:
            scale = 1.0
        for memory in memories:
            if memory is not None:  # the class token, and what was masked then or is masked now
                memory.is_fresh = F.pad(before | masked, (1, 0), value=True)
        before = masked.clone()
        probs = token_probs(
            weights,
            config,
            heated,
            condition(weights, config, codes, class_ids, masked, memories[0]).flatten(0, 1),
            condition(
                *other, codes, null if second is None else second, masked, memories[1]
            ).flatten(0, 1),
            scale,
            noise,
            number,
            guide,
        )
        draws = noise.bit_uniforms(number, torch.tensor([0]), everyone)[0]
        bits = (draws < probs).to(dtype)
        if sampler.deterministic_bits:
            bits = (probs > 0.5).to(dtype)
        sureness = (2 * probs - 1).abs().mean(-1).view(batch, tokens)
        scores = sureness
        uniforms = noise.order_uniforms(number)
        if isinstance(sampler.gumbel_schedule, tuple):
            factor = on_lines(sampler.gumbel_schedule, i, sampler.num_iterations)
        else:
            factors = {"constant": 1.0, "up": progress, "down": 1 - progress}
            factor = factors[sampler.gumbel_schedule]
        scores = scores - sampler.gumbel_temperature * factor * torch.log(-torch.log(uniforms))
        orders = sampler.order if isinstance(sampler.order, tuple) else (sampler.order,)
        repeated = [name for name in orders for _ in range(sampler.num_iterations)]
        order = repeated[(i - 1) * len(orders)]
        if order == "random":
            scores = uniforms
        elif order == "halton":
            scores = -torch.tensor(halton_ranks(config.grid_size)).expand(batch, -1).double()
        elif order == "raster":
            scores = -torch.arange(tokens).expand(batch, -1).double()
        bits = bits.view(batch, tokens, -1)
        for image, total in enumerate(totals):
            left = math.floor(total * math.cos(math.pi / 2 * progress**sampler.mask_power))
            if sampler.mask_schedule == "linear" and sampler.mask_power != 1:
                left = math.floor(total - total * progress**sampler.mask_power)
            elif sampler.mask_schedule == "linear":
                left = total * (sampler.num_iterations - i) // sampler.num_iterations
            if i == sampler.num_iterations:
                left = 0
            candidates = [n for n in range(tokens) if masked[image, n]]
            candidates.sort(key=lambda n: -float(scores[image, n]))
            for n in candidates[: len(candidates) - left]:
                codes[image, n] = bits[image, n]
                masked[image, n] = False
                certainty[image][n] = float(sureness[image, n])
    return codes


def loss(
    weights: Weights,
    config: BiGRConfig,
    codes: Tensor,
    class_ids: Tensor,
    is_masked: Tensor,
    t: Tensor,
    x_t: Tensor,
) -> Tensor:
    """The scalar training loss with given mask and noise, all tokens computed, then selected."""
    conditions = condition(weights, config, codes, class_ids, is_masked).flatten(0, 1)
    x_0 = codes.flatten(0, 1)
    logits = denoiser(weights, config, x_t, t, conditions)
    flips = (x_0 != x_t).to(logits.dtype)
    bce = -(flips * F.logsigmoid(logits) + (1 - flips) * F.logsigmoid(-logits))
    share = flips.mean(-1, keepdim=True)
    alpha = (1 - share) * flips + share * (1 - flips) + 1 / config.code_dim
    return (bce * alpha)[is_masked.flatten()].mean()
