"""Products that call oneDNN against float64."""

from __future__ import annotations

import pytest
import torch

from bigr.models import onednn
from bigr.models.onednn import packed_product
from tests.numbers import relative_error

pytestmark = pytest.mark.skipif(not onednn.HAS_ONEDNN, reason="PyTorch has no such operators here")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("shape", [(1, 512), (37, 512), (2, 5, 512)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_the_product(
    dtype: torch.dtype, tolerance: float, shape: tuple[int, ...], has_bias: bool
) -> None:
    if dtype not in onednn.SMALLEST_WEIGHT:
        pytest.skip("the processor has no instructions for bfloat16")
    weight = torch.randn(520, 512).to(dtype)
    bias = torch.randn(520).to(dtype) if has_bias else None
    x = torch.randn(shape).to(dtype)
    expected = x.double() @ weight.double().T + (0.0 if bias is None else bias.double())
    before = weight.clone()
    product = packed_product(weight, bias)(x)
    assert product.dtype == dtype
    assert relative_error(product.double(), expected) < tolerance
    assert torch.equal(weight, before)
