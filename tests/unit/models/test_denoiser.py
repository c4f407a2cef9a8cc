"""The two ways through the denoiser against the plain one in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bigr import BiGR
from bigr.models.products import Products
from tests import plain
from tests.models import tiny_generator
from tests.numbers import relative_error


def inputs(model: BiGR, count: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x_t = torch.randint(2, (count, model.config.code_dim), generator=generator).float()
    t = torch.randint(1, model.config.num_diffusion_steps + 1, (count,), generator=generator)
    return x_t, t, torch.randn(count, model.config.dim, generator=generator)


def expected(model: BiGR, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    return plain.denoiser(weights, model.config, x_t.double(), t, condition.double())


@torch.no_grad()
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_prepared_layers(blocks: int, dtype: torch.dtype, tolerance: float) -> None:
    """All modulations in one product give the same logits, in float32 whatever the product is."""
    model = tiny_generator(denoiser_blocks=blocks)
    x_t, t, condition = inputs(model)
    denoiser = model.transcoder.denoiser
    embedding = denoiser.condition(condition) + denoiser.embed_time(t)
    logits = denoiser.prepare(Products(dtype)).logits(2 * x_t - 1, embedding)
    assert logits.dtype == torch.float32
    assert relative_error(logits.double(), expected(model, x_t, t, condition)) < tolerance


@torch.no_grad()
def test_two_conditions_per_token() -> None:
    """The first half of the rows has the first condition of each token, the second the other."""
    model = tiny_generator()
    x_t, t, first = inputs(model)
    second = first.flip(0)
    denoiser = model.transcoder.denoiser
    embedding = denoiser.condition(torch.cat([first, second])) + denoiser.embed_time(t).repeat(2, 1)
    halves = denoiser.prepare(Products(torch.float32)).logits(2 * x_t - 1, embedding).chunk(2)
    for logits, condition in zip(halves, (first, second), strict=True):
        assert relative_error(logits.double(), expected(model, x_t, t, condition)) < 1e-5


@torch.no_grad()
def test_prepared_layers_keep_the_weights_they_were_made_from() -> None:
    """Preparing changes no weight of the denoiser, although it adds 1 to biases of scales."""
    model = tiny_generator()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.transcoder.denoiser.prepare(Products(torch.bfloat16))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_fresh_denoiser_is_undecided() -> None:
    """Its output weights are zero, so each bit has probability 1/2, and gradients reach them."""
    model = BiGR(tiny_generator().config)
    logits = model.transcoder.denoiser(*inputs(model))
    assert torch.equal(logits, torch.zeros_like(logits))
    (logits * torch.randn_like(logits)).sum().backward()
    weight = model.transcoder.denoiser.output.weight
    assert weight.grad is not None
    assert weight.grad.abs().min() > 0
