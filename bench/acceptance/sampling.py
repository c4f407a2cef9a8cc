"""Stages that time the sampler against a plain one in float32, and against the GPU's ceiling."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.acceptance.context import Context, Values, exact_products
from bigr.models.bigr import BiGR
from bigr.models.config import BiGRConfig
from bigr.models.float8 import float8_missing
from bigr.sampling.random_numbers import SeededNoise
from bigr.sampling.sampler import Progress, Sampler, compute_dtype
from bigr.sampling.sampler_config import ExecutionConfig, SamplerConfig
from tests import plain

PLAIN_ITERATIONS = 2
"""Iterations of the plain sampler that are timed. All of them take the same time, because it
denoises every token in each."""
TOLERANCE = 1e-3
"""Largest relative difference between the two implementations of a pass, in float32."""
MODES: tuple[dict[str, Any], ...] = (
    {"mode": "eager"},
    {"mode": "auto"},
    {"mode": "auto", "precision": "float32"},
    {"mode": "auto", "precision": "float8"},
    {"mode": "compiled"},
)
"""Ways of executing the sampler, the quickest to prepare first."""


def l_1(context: Context) -> Values:
    """Time L at batch size 1."""
    return _against_plain(context, 1)


def l_8(context: Context) -> Values:
    """Time L at batch size 8."""
    return _against_plain(context, context.count(8, 2))


def l_64(context: Context) -> Values:
    """Time L at batch size 64."""
    return _against_plain(context, context.count(64, 4))


def xxl(context: Context) -> Values:
    """Time XXL at batch size 16, without a plain version."""
    return timed(context, context.model(context.config("xxl")), context.count(16, 2))


def l_512(context: Context) -> Values:
    """Time L at 512x512 pixels and batch size 8, without a plain version."""
    return timed(context, context.model(context.config("l_512")), context.count(8, 2))


def variants(context: Context) -> Values:
    """Time several ways of executing the sampler of L at batch size 8."""
    model, batch = context.model(context.config("l")), context.count(8, 2)
    values: Values = {}
    for settings in MODES:
        name = "_".join(settings.values())
        missing = float8_missing(context.device) if "float8" in name else None
        # The compiler takes a CPU longer than all other stages.
        missing = "not tried" if "compiled" in name and context.is_tiny else missing
        if missing:
            values[name] = missing
            continue
        sampler = Sampler(context.sampler(), ExecutionConfig(**settings))
        seconds = context.seconds(functools.partial(run, sampler, model, batch), rounds=1)
        values[f"{name}_seconds"] = seconds
    return values


class StopSampling(Exception):  # noqa: N818  # no error
    """Ends sampling after an iteration."""


def run(sampler: Sampler, model: BiGR, batch: int, last: int | None = None) -> None:
    """Sample ``batch`` images of different classes, up to the iteration ``last`` or completely."""

    def stop(progress: Progress) -> None:
        if progress.iteration == last:
            raise StopSampling

    classes = torch.arange(batch) * 7 % model.config.num_classes
    with contextlib.suppress(StopSampling):
        sampler.sample(model, classes, seeds=range(batch), on_iteration=stop)


def timed(context: Context, model: BiGR, batch: int) -> Values:
    """Return the time of a batch, and its share of the time that matrix products need at least."""
    sampler = Sampler(context.sampler())
    run(sampler, model, batch)  # records
    before = sampler.flops
    context.synchronize()
    seconds = context.seconds(lambda: run(sampler, model, batch), rounds=2, warm_up=0)
    flops = (sampler.flops - before) / 2
    kind = str(compute_dtype("auto", context.device, model.config.dim)).removeprefix("torch.")
    floor = flops / (1e12 * context.rate(f"{kind}_tflops"))
    return {
        "batch": batch,
        "seconds": seconds,
        "images_per_second": batch / seconds,
        "tflop_per_image": flops / batch / 1e12,
        "share_of_floor": floor / seconds,
        "memory_gb": context.peak_memory(),
    }


def _against_plain(context: Context, batch: int) -> Values:
    config = context.config("l")
    model = context.model(config)
    values = timed(context, model, batch)
    values["agrees_with_plain"] = _difference(context, model) < TOLERANCE
    for name, is_exact in (("float32", True), ("tf32", False)):
        with exact_products(is_exact):
            function = plain_sampling(context, model, batch, PLAIN_ITERATIONS)
            seconds = context.seconds(function, rounds=1)
        whole = seconds / PLAIN_ITERATIONS * context.sampler().num_iterations
        values[f"plain_{name}_seconds"] = whole
        values[f"speedup_over_{name}"] = whole / values["seconds"]
    return values


def _difference(context: Context, model: BiGR) -> float:
    """Return how much the conditions of the plain transformer differ from ours."""
    config, device = model.config, context.device
    codes = torch.randint(2, (2, config.seq_len, config.code_dim), device=device).float()
    is_masked = torch.rand(2, config.seq_len, device=device) < 0.5
    classes = torch.arange(2, device=device)
    with torch.no_grad(), exact_products(), device:
        plain.rotations.cache_clear()
        ours = model.condition(codes, classes, is_masked)
        theirs = plain.condition(dict(model.state_dict()), config, codes, classes, is_masked)
    return float((ours - theirs).abs().max() / theirs.abs().max())


def plain_sampling(
    context: Context, model: BiGR, batch: int, num_iterations: int
) -> Callable[[], Tensor]:
    """Return a function for the first iterations of ``tests/plain.py``'s sampler on the GPU.

    The equations are those of :mod:`tests.plain`. Only the choice of the tokens, which is a loop in
    Python there, is written with tensors, so that the GPU does not wait for it.
    """
    settings, config, weights = context.sampler(), model.config, dict(model.state_dict())

    def sample() -> Tensor:
        with torch.no_grad(), context.device:
            plain.rotations.cache_clear()
            return _plain(weights, config, settings, batch, num_iterations)

    return sample


def _plain(
    weights: dict[str, Tensor],
    config: BiGRConfig,
    settings: SamplerConfig,
    batch: int,
    num_iterations: int,
) -> Tensor:
    size = (batch, config.seq_len)
    codes, is_masked = torch.zeros(*size, config.code_dim), torch.ones(size, dtype=torch.bool)
    classes = torch.arange(batch) % config.num_classes
    null = torch.full_like(classes, config.null_class)
    noise = SeededNoise(torch.arange(batch), *codes.shape[1:], codes.device)
    everyone = torch.arange(batch * config.seq_len)
    for i in range(1, num_iterations + 1):
        conditional, unconditional = (
            plain.condition(weights, config, codes, ids, is_masked).flatten(0, 1)
            for ids in (classes, null)
        )
        probs = plain.token_probs(
            weights, config, settings, conditional, unconditional, settings.guidance_scale, noise, i
        )
        draws = noise.bit_uniforms(i, torch.zeros(1, dtype=torch.int64), everyone)[0]
        bits = (draws < probs).float().view_as(codes)
        scores = (2 * probs - 1).abs().mean(-1).view(size)
        tau = settings.gumbel_temperature
        scores = scores - tau * torch.log(-torch.log(noise.order_uniforms(i)))
        left = math.floor(config.seq_len * math.cos(math.pi / 2 * i / settings.num_iterations))
        left = 0 if i == settings.num_iterations else left
        ranks = scores.masked_fill(~is_masked, math.inf).argsort(1, descending=True).argsort(1)
        is_chosen = is_masked & (ranks < config.seq_len - left)
        codes = torch.where(is_chosen[..., None], bits, codes)
        is_masked = is_masked & ~is_chosen
    return codes
