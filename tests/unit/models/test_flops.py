"""The closed form against PyTorch's counter."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bigr import BiGR, BiGRConfig, Sampler, SamplerConfig
from bigr.models.flops import mean_masked_share, training_flops

SIZES = {
    "l": {"dim": 1024, "num_layers": 24, "num_heads": 16, "denoiser_dim": 1024},
    "narrow": {"dim": 128, "num_layers": 3, "num_heads": 4, "denoiser_dim": 192},
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("masked_only", [False, True])
def test_training_flops_are_those_counted(name: str, masked_only: bool) -> None:
    """Forward and backward on the meta device, which counts without computing."""
    config = BiGRConfig(
        **SIZES[name], grid_size=16, code_dim=24, num_classes=1000, denoiser_blocks=3
    )
    with torch.device("meta"):
        model = BiGR(config).to("meta")
        codes, classes = torch.zeros(2, 256, 24), torch.zeros(2, dtype=torch.int64)
        draws = model.draw(2)._replace(num_masked=100)
        counter = FlopCounterMode(display=False)
        with sdpa_kernel(SDPBackend.MATH), counter:
            loss = model.loss(codes, classes, draws=draws, masked_only=masked_only).loss
            loss.backward()
    expected = counter.get_total_flops() / 2
    share = 100 / 256 if masked_only else 1.0
    assert training_flops(config, masked_share=share) == pytest.approx(expected, rel=0.01)


def test_two_thirds_of_the_tokens_are_masked() -> None:
    config = BiGRConfig(
        **SIZES["l"], grid_size=16, code_dim=24, num_classes=1000, denoiser_blocks=3
    )
    assert mean_masked_share(config) == pytest.approx(2 / math.pi, abs=0.01)


@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
def test_sampling_flops_are_those_counted(guidance_scale: float) -> None:
    """Of the transformer's and the denoiser's real calls, for any number of them."""
    config = BiGRConfig(
        **SIZES["narrow"], grid_size=8, code_dim=24, num_classes=10, denoiser_blocks=3
    )
    settings = SamplerConfig(guidance_scale=guidance_scale, num_iterations=4, num_denoise_steps=20)
    sampler, counter = Sampler(settings), FlopCounterMode(display=False)
    model = BiGR(config)
    with sdpa_kernel(SDPBackend.MATH), counter:
        sampler.sample(model, torch.arange(3), seeds=range(3))
    assert sampler.flops == pytest.approx(counter.get_total_flops(), rel=0.01)
    once = sampler.flops
    sampler.sample(model, torch.arange(3), seeds=range(3))
    assert sampler.flops == pytest.approx(2 * once)
