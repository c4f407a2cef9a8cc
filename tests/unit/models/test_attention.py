"""Both implementations of attention against a loop in float64, and which one is used."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import grad

from bigr.models import attention
from bigr.models.attention import MAX_TRAINING_KEYS, attend


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
def test_output_and_gradients(
    dtype: torch.dtype, is_causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = _draw(dtype=dtype)
    monkeypatch.setattr(attention, "WEIGHTS_PER_PART", 4 * 17 * 17)  # four of the six heads
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
        mixed = attend(*inputs)
    assert mixed.dtype == torch.bfloat16
    expected = _loop(*[one.double() for one in inputs], is_causal=False)
    assert (mixed.double() - expected).abs().max() < 0.03


@pytest.mark.parametrize("has_matrix_unit", [False, True])
def test_fewer_queries_than_keys(has_matrix_unit: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "HAS_MATRIX_UNIT", has_matrix_unit)
    query, key, value = [one.detach() for one in _draw(dtype=torch.bfloat16)]
    whole, last = attend(query, key, value), attend(query[:, :, -1:], key, value)
    assert torch.allclose(whole[:, :, -1:].float(), last.float(), atol=0.02)


@pytest.mark.parametrize("has_matrix_unit", [False, True])
def test_which_implementation_is_used(
    has_matrix_unit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "HAS_MATRIX_UNIT", has_matrix_unit)
    fused = F.scaled_dot_product_attention
    calls: list[torch.Size] = []

    def spy(query: Tensor, *others: Tensor, is_causal: bool) -> Tensor:
        calls.append(query.shape)
        return fused(query, *others, is_causal=is_causal)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)

    def is_fused(keys: int, dtype: torch.dtype) -> bool:
        calls.clear()
        query, key, value = _draw(keys, dtype)
        attend(query[:, :, :1], key, value)
        return bool(calls)

    assert is_fused(17, torch.float32)
    assert not is_fused(17, torch.bfloat16)
    assert not is_fused(MAX_TRAINING_KEYS, torch.bfloat16)
    assert is_fused(MAX_TRAINING_KEYS + 1, torch.bfloat16)  # memory of the backward pass
    with torch.no_grad():
        assert is_fused(17, torch.bfloat16) == has_matrix_unit
        assert is_fused(MAX_TRAINING_KEYS + 1, torch.bfloat16) == has_matrix_unit
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_fused(17, torch.float32)
