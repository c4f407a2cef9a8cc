"""Guidance by another generator, against the plain sampler and against ordinary guidance."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bigr import BiGR, ExecutionConfig, Sampler, SamplerConfig
from bigr.checkpoints.native import save_generator
from bigr.models.flops import chain_flops, transformer_flops
from bigr.sampling.guide import check_guide, load_guide
from bigr.sampling.random_numbers import SeededNoise
from tests import plain
from tests.models import tiny_generator

BASE = SamplerConfig(
    guidance_scale=2.0, num_iterations=4, gumbel_temperature=0.3, num_denoise_steps=6
)
CLASSES = torch.tensor([0, 2, 1])
CPU = torch.device("cpu")


def small(**changes: Any) -> BiGR:
    """Another generator of the same codes: narrower, shallower, with other weights."""
    torch.manual_seed(5)
    settings = {"dim": 16, "num_layers": 1, "num_heads": 2, "denoiser_dim": 24, **changes}
    return tiny_generator(**settings)


def double(model: BiGR) -> tuple[dict[str, Tensor], Any]:
    return {name: tensor.double() for name, tensor in model.state_dict().items()}, model.config


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"conditional_guide": False},
        {"guidance_scale": 0.0},
        {"guidance_scale": 0.4, "temperature": 1.3},
        {"guidance_schedule": "cosine", "guidance_levels": (0.3, 0.8)},
        {"guidance_interval": (0.4, 1.0), "reuse_decided": True, "corrector_share": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("objective", ["flip", "direct"])
def test_same_numbers_same_codes(changes: dict[str, Any], objective: str) -> None:
    """Bit for bit, although the plain one computes in float64."""
    model, guide = tiny_generator(objective=objective), small(objective=objective)
    config = dataclasses.replace(BASE, **changes)
    noise = SeededNoise(torch.tensor([3, 4, 5]), 16, 6, CPU)
    expected = plain.sample(*double(model), config, CLASSES, noise, guide=double(guide))
    actual = Sampler(config, guide=guide).sample(model, CLASSES, seeds=[3, 4, 5])
    assert torch.equal(actual.double(), expected)
    # The only level of the direct objective, T, is outside of the guided ones.
    alone = Sampler(config).sample(model, CLASSES, seeds=[3, 4, 5])
    is_guided = objective == "flip" or config.guidance_levels[1] == 1.0
    assert torch.equal(actual, alone) == (not is_guided)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_the_same_weights_without_the_class_are_ordinary_guidance(scale: float) -> None:
    model = tiny_generator()
    config = dataclasses.replace(BASE, guidance_scale=scale, conditional_guide=False)
    expected = Sampler(config).sample(model, CLASSES, seeds=range(3))
    guided = Sampler(config, guide=model).sample(model, CLASSES, seeds=range(3))
    assert torch.equal(guided, expected)


def test_the_same_weights_with_the_class_do_not_guide() -> None:
    model = tiny_generator()
    guided = Sampler(BASE, guide=model).sample(model, CLASSES, seeds=range(3))
    config = dataclasses.replace(BASE, guidance_scale=1.0)
    assert torch.equal(guided, Sampler(config).sample(model, CLASSES, seeds=range(3)))


def test_operations_of_a_guide() -> None:
    """One pass of each transformer and one chain of each denoiser, for all 16 tokens."""
    model, guide = tiny_generator(), small()
    config = dataclasses.replace(BASE, num_iterations=1)
    sampler = Sampler(config, guide=guide)
    sampler.sample(model, CLASSES, seeds=range(3))
    each = [
        3 * transformer_flops(one.config) + 48 * chain_flops(one.config, 6)
        for one in (model, guide)
    ]
    assert sampler.flops == pytest.approx(sum(each))


def test_a_guide_of_its_own_precision() -> None:
    """Most bits stay, some change; a generator in bfloat16 with an exact guide is another."""
    model, guide = tiny_generator(), small()
    found = [
        Sampler(BASE, ExecutionConfig(precision=own, guide_precision=other), guide=guide).sample(
            model, torch.arange(60) % 3, seeds=range(60)
        )
        for own, other in (("float32", None), ("float32", "bfloat16"), ("bfloat16", "float32"))
    ]
    for changed in found[1:]:
        assert 0.8 < (changed == found[0]).double().mean() < 1.0
    assert not torch.equal(found[1], found[2])


def test_a_guide_from_a_file(tmp_path: Path) -> None:
    model, guide = tiny_generator(), small()
    path = tmp_path / "guide.safetensors"
    save_generator(guide, path)
    config = dataclasses.replace(BASE, guide=str(path))
    expected = Sampler(BASE, guide=guide).sample(model, CLASSES, seeds=range(3))
    assert torch.equal(Sampler(config).sample(model, CLASSES, seeds=range(3)), expected)
    assert load_guide(str(path), CPU) is load_guide(str(path), CPU)
    with pytest.raises(ValueError, match=r"sampler\.guide=.*nowhere\.pt: "):
        Sampler(dataclasses.replace(BASE, guide=str(tmp_path / "nowhere.pt"))).check(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code_dim": 5}, r"code_dim 5 \(bits per token\), but the generator has 6"),
        ({"grid_size": 2}, r"grid_size 2 \(tokens per side\), but the generator has 4"),
        ({"objective": "x0"}, "objective x0 .*: use a guide with objective=flip"),
        ({"num_diffusion_steps": 50}, "use a guide with num_diffusion_steps="),
        ({"num_classes": 7}, "num_classes 7 .* or sampler.conditional_guide=false"),
    ],
)
def test_a_guide_of_another_kind_is_refused(changes: dict[str, Any], message: str) -> None:
    model, guide = tiny_generator(), small(**changes)
    with pytest.raises(ValueError, match=message):
        Sampler(BASE, guide=guide).check(model)
    if "num_classes" in changes:
        check_guide(guide, model, is_conditional=False)


def test_a_softmax_has_no_guide() -> None:
    model = tiny_generator(objective="categorical")
    with pytest.raises(ValueError, match="does not work with objective=categorical"):
        Sampler(BASE, guide=model).check(model)


def test_mixtures_of_classes_need_a_guide_without_the_class() -> None:
    model, guide = tiny_generator(), small()
    mixture = torch.zeros(1, model.config.dim)
    with pytest.raises(ValueError, match=r"sampler\.conditional_guide=false"):
        Sampler(BASE, guide=guide).sample(model, mixture, seeds=[1])
    config = dataclasses.replace(BASE, conditional_guide=False)
    codes = Sampler(config, guide=guide).sample(model, mixture, seeds=[1])
    assert set(codes.unique().tolist()) == {0.0, 1.0}
