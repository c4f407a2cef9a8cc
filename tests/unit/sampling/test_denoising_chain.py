"""The denoising chain against the plain one, level by level in float64."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch

from bigr import SamplerConfig
from bigr.sampling.denoising_chain import DenoisingChain, TokenDenoiser
from bigr.sampling.player import CPU_ROWS
from bigr.sampling.random_numbers import SeededNoise
from tests import plain
from tests.models import tiny_generator

SETTINGS = SamplerConfig(num_denoise_steps=5, temperature=1.3)


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize("spacing", ["even", "quadratic"])
@pytest.mark.parametrize("objective", ["flip", "x0", "direct"])
def test_bit_probs(objective: str, spacing: str, scale: float) -> None:
    """Some tokens of two images, in any order; the others need not be computed."""
    model = tiny_generator(objective=objective)
    settings = dataclasses.replace(SETTINGS, denoise_spacing=spacing)
    noise = SeededNoise(torch.tensor([3, 4]), 16, 6, torch.device("cpu"))
    conditions = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0))
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    expected = plain.token_probs(
        weights, model.config, settings, *conditions.double(), scale, noise, iteration=7
    )
    tokens = torch.tensor([31, 0, 5, 17])
    denoiser = TokenDenoiser(model.transcoder, settings.num_denoise_steps, spacing)
    actual = denoiser.bit_probs(
        conditions if scale != 1 else conditions[:1], tokens, noise,
        iteration=7, guidance_scale=scale, temperature=settings.temperature,
    )  # fmt: skip
    torch.testing.assert_close(actual.double(), expected[tokens], rtol=1e-4, atol=1e-5)
    assert denoiser.rows.total() == (8 if scale != 1 else 4)


@torch.no_grad()
def test_chunks_do_not_matter() -> None:
    """More tokens than go through the chain at a time are what they are in smaller groups."""
    model = tiny_generator()
    images = CPU_ROWS // 16 + 1
    noise = SeededNoise(torch.arange(images), 16, 6, torch.device("cpu"))
    conditions = torch.randn(2, images * 16, 32)
    denoiser = TokenDenoiser(model.transcoder, 4)
    everything = torch.arange(images * 16)
    assert len(everything) > denoiser.player.max_rows
    bit_probs = functools.partial(
        denoiser.bit_probs,
        conditions,
        noise=noise,
        iteration=1,
        guidance_scale=2.0,
        temperature=1.0,
    )
    parts = list(map(bit_probs, everything.split(50)))
    torch.testing.assert_close(bit_probs(everything), torch.cat(parts))


@torch.no_grad()
def test_a_chain_can_be_repeated() -> None:
    """It visits levels 8, 4 and 1, and after a reset it begins anew."""
    denoiser = TokenDenoiser(tiny_generator(num_diffusion_steps=8).transcoder, 3)
    chain = DenoisingChain(denoiser, size=4, steps=slice(0, 3), is_guided=False)
    chain.uniforms.uniform_(generator=torch.Generator().manual_seed(0))
    results = []
    for _ in range(2):
        chain.reset()
        assert chain.bit_probs.eq(0.5).all()
        for _ in range(chain.num_steps):
            chain.step()
        results.append(chain.result.clone())
    assert torch.equal(*results)
    assert denoiser.keep_next.tolist() == [1 - 4 / 8, 1 - 1 / 8, 1.0]
    torch.testing.assert_close(denoiser.keep_between, torch.tensor([0.0, 4 / 7, 7 / 8]))
