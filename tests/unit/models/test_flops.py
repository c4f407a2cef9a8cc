"""The closed form against PyTorch's counter."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bigr import BiGR, BiGRConfig, Sampler, SamplerConfig
from bigr.models.flops import mean_masked_share, training_flops

NARROW = BiGRConfig(
    dim=128,
    num_layers=3,
    num_heads=4,
    denoiser_dim=192,
    denoiser_blocks=3,
    grid_size=8,
    code_dim=24,
    num_classes=10,
)
CONFIGS = {
    "narrow": NARROW,
    "softmax": dataclasses.replace(NARROW, objective="categorical"),
    "causal": dataclasses.replace(NARROW, attention="causal"),
    **{
        name: BiGRConfig.preset(name, grid_size=16, code_dim=24, num_classes=1000)
        for name in ("s", "b", "l", "xl", "xxl")
    },
    **{
        f"{name} at 64": BiGRConfig.preset(name, grid_size=8, code_dim=16, num_classes=1000)
        for name in ("s", "b")
    },
}


@pytest.mark.parametrize(
    ("name", "masked_only"),
    [(n, m) for n in CONFIGS for m in (False, True) if m or n not in ("xl", "xxl")],
)
def test_training_flops_are_those_counted(name: str, masked_only: bool) -> None:
    """Forward and backward on the meta device, which counts without computing."""
    config = CONFIGS[name]
    num_masked = 3 * config.seq_len // 8
    with torch.device("meta"):
        model = BiGR(config).to("meta")
        codes = torch.zeros(2, config.seq_len, config.code_dim)
        classes = torch.zeros(2, dtype=torch.int64)
        draws = model.draw(2)._replace(num_masked=num_masked)
        counter = FlopCounterMode(display=False)
        with sdpa_kernel(SDPBackend.MATH), counter:
            loss = model.loss(codes, classes, draws=draws, masked_only=masked_only).loss
            loss.backward()
    expected = counter.get_total_flops() / 2
    share = num_masked / config.seq_len if masked_only else 1.0
    assert training_flops(config, masked_share=share) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("num_levels", [1, 4])
def test_each_noise_level_counts(num_levels: int) -> None:
    with torch.device("meta"):
        model = BiGR(NARROW).to("meta")
        codes = torch.zeros(2, NARROW.seq_len, NARROW.code_dim)
        classes = torch.zeros(2, dtype=torch.int64)
        draws = model.draw(2, num_levels=num_levels)._replace(num_masked=24)
        counter = FlopCounterMode(display=False)
        with sdpa_kernel(SDPBackend.MATH), counter:
            model.loss(codes, classes, draws=draws, masked_only=True).loss.backward()
    expected = counter.get_total_flops() / 2
    actual = training_flops(NARROW, masked_share=24 / NARROW.seq_len, num_levels=num_levels)
    assert actual == pytest.approx(expected, rel=0.01)


def test_two_thirds_of_the_tokens_are_masked() -> None:
    assert mean_masked_share(CONFIGS["l"]) == pytest.approx(2 / math.pi, abs=0.01)
    assert mean_masked_share(CONFIGS["causal"]) == 1.0


@pytest.mark.parametrize(
    ("guidance_scale", "name"), [(1.0, "narrow"), (2.5, "narrow"), (1.0, "softmax")]
)
def test_sampling_flops_are_those_counted(
    guidance_scale: float, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the transformer's and the denoiser's real calls, for any number of them."""
    # PyTorch's counter does not know the operators of oneDNN.
    monkeypatch.setattr("bigr.models.products.SMALLEST_WEIGHT", {})
    settings = SamplerConfig(guidance_scale=guidance_scale, num_iterations=4, num_denoise_steps=20)
    sampler, counter = Sampler(settings), FlopCounterMode(display=False)
    model = BiGR(CONFIGS[name])
    with sdpa_kernel(SDPBackend.MATH), counter:
        sampler.sample(model, torch.arange(3), seeds=range(3))
    assert sampler.flops == pytest.approx(counter.get_total_flops(), rel=0.01)
    once = sampler.flops
    sampler.sample(model, torch.arange(3), seeds=range(3))
    assert sampler.flops == pytest.approx(2 * once)
