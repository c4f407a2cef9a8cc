"""Both ways to compute attention against an explicit loop in float64, and the choice of the way."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import grad

from bigr.models.attention import MAX_MULTIPLIED_KEYS, attend, multiplies_weights


def _draw(keys: int = 17, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(keys)
    shape = (3, 2, keys, 8)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


def _loop(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool) -> Tensor:
    rows = []
    for row in range(query.shape[2]):
        seen = row + 1 if is_causal else key.shape[2]
        scores = (query[:, :, row, None] * key[:, :, :seen]).sum(-1) / query.shape[-1] ** 0.5
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        rows.append((weights[..., None] * value[:, :, :seen]).sum(2))
    return torch.stack(rows, 2)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_and_gradients(dtype: torch.dtype, is_causal: bool) -> None:
    inputs = _draw(dtype=dtype)
    assert multiplies_weights(inputs[0], 17) == (dtype == torch.bfloat16)
    exact = [one.detach().double().requires_grad_() for one in inputs]
    seed = torch.randn(3, 2, 17, 8, generator=torch.Generator().manual_seed(1))
    results = []
    for function, tensors in ((_loop, exact), (attend, inputs), (_fused, inputs)):
        mixed = function(*tensors, is_causal=is_causal)
        results.append([mixed, *grad((mixed * seed.to(mixed.dtype)).sum(), tensors)])
    oracle, ours, fused = results
    for name, wanted, got, other in zip("oqkv", oracle, ours, fused, strict=True):
        assert got.dtype == dtype
        error = (got.double() - wanted).abs().max().item()
        if dtype == torch.float32:
            assert error < 2e-6, name
        else:  # as exact as PyTorch's, up to the rounding of the weights to bfloat16
            assert error < 1.5 * (other.double() - wanted).abs().max().item() + 1e-2, name


def _fused(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)


def test_autocast_gives_bfloat16() -> None:
    inputs = _draw()
    with torch.autocast("cpu", torch.bfloat16):
        assert multiplies_weights(inputs[0], 17)
        mixed = attend(*inputs)
    assert mixed.dtype == torch.bfloat16
    expected = _loop(*[one.double() for one in inputs], is_causal=False)
    assert (mixed.double() - expected).abs().max() < 0.03


def test_the_way_depends_on_what_is_faster() -> None:
    query = _draw(dtype=torch.bfloat16)[0]
    assert multiplies_weights(query, MAX_MULTIPLIED_KEYS)
    assert not multiplies_weights(query, MAX_MULTIPLIED_KEYS + 1)  # memory
    assert not multiplies_weights(query.detach(), 17)
    assert not multiplies_weights(query.float(), 17)
    assert not multiplies_weights(query.to("meta"), 17)
    with torch.no_grad():
        assert not multiplies_weights(query, 17)
