"""Sampling with the randomness taken out, against numbers from the released code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from bigr import BiGR, ExecutionConfig, Sampler, SamplerConfig
from bigr.checkpoints.released import SCHEDULE, schedule_tables
from bigr.models.noise_schedule import LinearSchedule
from bigr.sampling.denoising_chain import TokenDenoiser
from tests.half_noise import HalfNoise
from tests.numbers import relative_error

Arrays = dict[str, Tensor]


def half(images: int, model: BiGR) -> HalfNoise:
    return HalfNoise(torch.zeros(images), model.config.seq_len, model.config.code_dim)


def bit_probs(model: BiGR, conditional: Tensor, unconditional: Tensor, noise: HalfNoise) -> Tensor:
    with torch.no_grad():
        denoiser = TokenDenoiser(model.transcoder, 25)
        return denoiser.bit_probs(
            torch.stack([conditional, unconditional]),
            torch.arange(len(conditional)),
            noise,
            iteration=1,
            guidance_scale=2.5,
            temperature=1.0,
        )


def test_settings_are_those_of_the_numbers(sizes: dict[str, float]) -> None:
    assert (sizes["denoise_steps"], sizes["num_iterations"], sizes["cfg_scale"]) == (25, 6, 2.5)


def test_transcoder(generator: BiGR, generator_io: Arrays) -> None:
    conditional, unconditional = generator_io["ts_cond_then_uncond"].chunk(2)
    actual = bit_probs(generator, conditional, unconditional, half(1, generator))
    assert relative_error(actual, generator_io["ts_prob_x0"]) < 1e-5


def test_first_iteration(generator: BiGR, generator_io: Arrays) -> None:
    classes = generator_io["gen_class_ids"]
    codes = torch.zeros(len(classes), generator.config.seq_len, generator.config.code_dim)
    is_masked = torch.ones(codes.shape[:2], dtype=torch.bool)
    null = torch.full_like(classes, generator.config.null_class)
    with torch.no_grad():
        conditional = generator.condition(codes, classes, is_masked).flatten(0, 1)
        unconditional = generator.condition(codes, null, is_masked).flatten(0, 1)
    actual = bit_probs(generator, conditional, unconditional, half(len(classes), generator))
    expected = generator_io["first_iter_prob"]
    assert relative_error(actual.view_as(expected), expected) < 1e-5


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_codes_are_bit_identical(generator: BiGR, generator_io: Arrays, schedule: str) -> None:
    classes = generator_io["gen_class_ids"]
    sampler = Sampler(
        SamplerConfig(
            guidance_scale=2.5,
            guidance_schedule=schedule,  # type: ignore[arg-type]
            num_iterations=6,
            num_denoise_steps=25,
            gumbel_temperature=0.0,
        ),
        ExecutionConfig(precision="float32"),
    )
    codes = torch.zeros(len(classes), generator.config.seq_len, generator.config.code_dim)
    is_masked = torch.ones(codes.shape[:2], dtype=torch.bool)
    noise = half(len(classes), generator)
    actual = sampler.run(generator, classes, codes, is_masked, noise)
    expected = generator_io[f"gen_{schedule}_cfg_codes"]
    assert expected.mean().item() not in (0.0, 1.0)
    assert torch.equal(actual, expected)


def test_noise_schedule(conformance: Path) -> None:
    tables = load_file(conformance / "noise_schedule_linear_256.safetensors")
    ours = schedule_tables(256)
    for name, table in tables.items():
        assert torch.equal(ours[SCHEDULE + name], table), name
    closed_form = LinearSchedule(256).keep(torch.arange(257))
    torch.testing.assert_close(closed_form, tables["k_final"], rtol=0, atol=1e-7)
