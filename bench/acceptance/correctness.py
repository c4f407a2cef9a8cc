"""Stages that compare results: with the released code, the CPU, and other ways of computing."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.acceptance.context import Context, Values, exact_products
from bigr.checkpoints.load import generator_config, load_autoencoder, load_generator
from bigr.checkpoints.read import read_checkpoint
from bigr.models.bigr import BiGR
from bigr.models.float8 import float8_missing
from bigr.models.products import Products
from bigr.sampling.denoising_chain import TokenDenoiser
from bigr.sampling.player import SIZES, Player
from bigr.sampling.random_numbers import SeededNoise
from bigr.sampling.sampler import Sampler, compute_dtype
from bigr.sampling.sampler_config import ExecutionConfig, SamplerConfig
from tests.half_noise import HalfNoise
from tests.models import tiny_generator
from tests.numbers import relative_error

DATA = Path(__file__).parents[2] / "tests" / "conformance" / "data"
TOLERANCE = 1e-5
"""Of float32, relative to the largest value."""
CONVOLUTION_TOLERANCE = 1e-4
"""Of the convolutions of the B-AE, which cuDNN may compute by transforms."""
MIN_EQUAL = 0.99
"""Share of equal bits where sums in another order may change a bit."""
MAX_Z = 4.0
"""Standard errors; chance exceeds this for one of 96 bits in 0.6% of all runs."""
FLOAT8_TOLERANCE = 0.02
"""Mean difference of frequencies that float8 may cause, in addition to chance."""
STORED = {"F32": torch.float32, "I64": torch.int64, "BOOL": torch.bool}


def conformance(context: Context) -> Values:
    """Compare both networks and a whole sampling with numbers of the released code."""
    device, sizes = context.device, json.loads((DATA / "generator_tiny.json").read_text())
    path = DATA / "generator_tiny.pt"
    inferred = generator_config(read_checkpoint(path, "generator"))
    config = dataclasses.replace(inferred, num_heads=sizes["num_heads"])
    model = load_generator(path, config=config).to(device)
    io = _stored("generator_tiny_io.safetensors", device)
    autoencoder = load_autoencoder(DATA / "bae_tiny.th").to(device)
    images = _stored("bae_tiny_io.safetensors", device)
    with torch.no_grad(), exact_products():
        condition = model.condition(io["codes"], io["class_ids"], io["mask"])
        logits = model.transcoder.denoiser(io["dn_xt"], io["dn_t"], io["dn_cond"])
        loss = model.transcoder.loss(io["dn_x0"], io["dn_t"], io["dn_xt"], io["dn_cond"]).loss
        conditions = torch.stack(io["ts_cond_then_uncond"].chunk(2))
        tokens = torch.arange(conditions.shape[1], device=device)
        chain = TokenDenoiser(model.transcoder, sizes["denoise_steps"]).bit_probs(
            conditions, tokens, HalfNoise(tokens[:1], config.seq_len, config.code_dim, device),
            iteration=1, guidance_scale=sizes["cfg_scale"], temperature=1.0,
        )  # fmt: skip
        errors = {
            "condition": relative_error(condition, io["condition"]),
            "denoiser": relative_error(logits, io["dn_logits"]),
            "loss": relative_error(loss, io["loss_elementwise"]),
            "chain": relative_error(chain, io["ts_prob_x0"]),
        }
        pictures = {
            "encoder": relative_error(autoencoder.encode(images["images"]), images["bit_prob"]),
            "decoder": relative_error(autoencoder.decode(images["codes"]), images["decoded"]),
        }
        equal = _equal(_released_sampling(model, io, sizes), io["gen_constant_cfg_codes"])
    return {
        **{f"error_{name}": value for name, value in {**errors, **pictures}.items()},
        "equal_codes": equal,
        "generator_agrees": max(errors.values()) < TOLERANCE,
        "autoencoder_agrees": max(pictures.values()) < CONVOLUTION_TOLERANCE,
        "codes_agree": equal >= MIN_EQUAL,
    }


def _released_sampling(model: BiGR, io: dict[str, Tensor], sizes: dict[str, Any]) -> Tensor:
    """Return the codes of the released sampler's settings without randomness."""
    classes, config = io["gen_class_ids"], model.config
    settings = SamplerConfig(
        guidance_scale=sizes["cfg_scale"],
        num_iterations=sizes["num_iterations"],
        num_denoise_steps=sizes["denoise_steps"],
        gumbel_temperature=0.0,
    )
    size = (len(classes), config.seq_len)
    blank = torch.zeros(*size, config.code_dim, device=classes.device)
    is_masked = torch.ones(size, dtype=torch.bool, device=classes.device)
    noise = HalfNoise(classes, config.seq_len, config.code_dim, classes.device)
    sampler = Sampler(settings, ExecutionConfig(precision="float32"))
    return sampler.run(model, classes, blank, is_masked, noise)


def seeds(context: Context) -> Values:
    """Compare random numbers and codes from the same seeds, on this device and on the CPU."""
    cpu, numbers = torch.device("cpu"), torch.arange(8) * 2**58
    found = []
    for device in (context.device, cpu):
        noise = SeededNoise(numbers, 256, 24, device)
        tokens = torch.arange(8 * 256, device=device)
        draws = torch.arange(3, device=device)
        found.append((noise.bit_uniforms(5, draws, tokens), noise.order_uniforms(5)))
    (bits, orders), expected = found
    model, settings = tiny_generator(), SamplerConfig(num_iterations=6, num_denoise_steps=10)
    classes = torch.arange(8) % model.config.num_classes
    sampler = Sampler(settings, ExecutionConfig(precision="float32"))
    with exact_products():
        there = sampler.sample(model, classes, seeds=range(8))
        model = model.to(context.device)
        here = sampler.sample(model, classes, seeds=range(8))
        alone = torch.cat([sampler.sample(model, classes[i : i + 1], seeds=[i]) for i in range(8)])
    values: Values = {
        "bit_numbers_equal": torch.equal(bits.cpu(), expected[0]),
        "order_numbers_equal": torch.equal(orders.cpu(), expected[1]),
        "codes_equal_to_cpu": _equal(here.cpu(), there),
        "codes_equal_in_another_batch": _equal(here, alone),
    }
    values["codes_agree"] = values["codes_equal_to_cpu"] >= MIN_EQUAL
    values["batches_agree"] = values["codes_equal_in_another_batch"] >= MIN_EQUAL
    return values


@torch.no_grad()
def graphs(context: Context) -> Values:
    """Compare recorded chains of many sizes, and a whole sampling, with eager ones.

    On a CPU, nothing is recorded by default. There, the recording is the step itself, so that only
    the padding is tested.
    """
    config = context.config("l")
    model = context.model(config)
    dtype = compute_dtype("auto", context.device, config.dim)
    recorded = Player("auto", context.device)
    if recorded.record is None:
        recorded.record, recorded.max_rows = lambda step: step, SIZES[-1]
    most = context.count(1000, 40)
    noise = SeededNoise(torch.arange(4), config.seq_len, config.code_dim, context.device)
    most = min(most, 4 * config.seq_len)
    conditions = torch.randn(2, 4 * config.seq_len, config.dim, device=context.device)
    steps = context.sampler().num_denoise_steps
    chains = [
        TokenDenoiser(model.transcoder, steps, products=Products(dtype), player=player)
        for player in (recorded, Player("eager", context.device))
    ]
    differences, shares = [], []
    with _warnings("bigr.sampling.player") as warnings:
        for size in sorted({1, 16, 17, most // 2, most}):
            tokens = torch.arange(size, device=context.device)
            for _ in range(2):  # the first time is eager
                first, second = (
                    chain.bit_probs(
                        conditions, tokens, noise, iteration=1, guidance_scale=2.5, temperature=1.0
                    )
                    for chain in chains
                )
                differences.append(float((first - second).abs().mean()))
                shares.append(_equal(first > 0.5, second > 0.5))
        codes = [
            Sampler(context.sampler(), ExecutionConfig(mode=mode)).sample(
                model, torch.zeros(4, dtype=torch.int64), seeds=range(4)
            )
            for mode in ("auto", "eager")
        ]
    return {
        "mean_difference": max(differences),
        "equal_bits": min(shares),
        "equal_codes": _equal(*codes),
        "recordings": len(recorded.recordings),
        "warnings": "; ".join(warnings),
        "bits_agree": min(shares) >= MIN_EQUAL,
        "no_warning": not warnings,
    }


def marginals(context: Context) -> Values:
    """Compare how often each of 96 bits is 1 in many images, by precision.

    All precisions get the same random numbers. Under the hypothesis of equal frequencies, the
    images in which only one of two precisions has a 1 are divided evenly (McNemar's test).
    """
    model = tiny_generator(denoiser_dim=32, code_dim=6).to(context.device)
    count = context.count(4000, 400)
    classes = torch.zeros(count, dtype=torch.int64)
    settings = SamplerConfig(num_iterations=3, num_denoise_steps=4)

    def bits(precision: Any) -> Tensor:
        with exact_products():
            sampler = Sampler(settings, ExecutionConfig(precision=precision))
            return sampler.sample(model, classes, seeds=range(count)).flatten(1)

    exact, values = bits("float32"), Values()
    for precision in ("bfloat16", "float8"):
        missing = float8_missing(context.device) if precision == "float8" else None
        if missing:
            values[precision] = missing
            continue
        other = bits(precision)
        only, lost = (other > exact).sum(0), (other < exact).sum(0)
        z = (only - lost).abs() / (only + lost).clamp(min=1).sqrt()
        values[f"{precision}_equal_bits"] = _equal(exact, other)
        values[f"{precision}_largest_z"] = float(z.max())
        values[f"{precision}_difference"] = float((other - exact).mean(0).abs().mean())
    values["bfloat16_agrees"] = values["bfloat16_largest_z"] < MAX_Z
    if "float8_difference" in values:
        # The mean of |x| is sqrt(2 / pi) standard errors, for a difference that is chance alone.
        chance = math.sqrt(2 / math.pi * (1 - values["float8_equal_bits"]) / count)
        values["float8_agrees"] = values["float8_difference"] < chance + FLOAT8_TOLERANCE
    return values


def _equal(actual: Tensor, expected: Tensor) -> float:
    """Return the share of equal elements."""
    return float((actual == expected).double().mean())


def _stored(name: str, device: torch.device) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, without the package of that name."""
    content = bytearray((DATA / name).read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    tensors = {}
    for key, about in json.loads(content[8:start]).items():
        if key != "__metadata__":
            first, last = about["data_offsets"]
            part = content[start + first : start + last]
            flat = torch.frombuffer(part, dtype=STORED[about["dtype"]])
            tensors[key] = flat.view(about["shape"]).to(device)
    return tensors


@contextlib.contextmanager
def _warnings(logger: str) -> Iterator[list[str]]:
    """Collect the warnings of a logger within a block."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger(logger).addHandler(handler)
    try:
        yield found
    finally:
        logging.getLogger(logger).removeHandler(handler)
