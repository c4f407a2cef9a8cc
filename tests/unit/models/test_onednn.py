"""Products that call oneDNN against float64, and a sampler that uses them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bigr import BiGR, BiGRConfig, ExecutionConfig, Sampler, SamplerConfig
from bigr.models import onednn
from bigr.models.onednn import OneDNNLinear, packed_product, with_onednn
from bigr.sampling import networks
from tests.models import TINY
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


def test_large_layers_are_replaced_and_share_their_weights() -> None:
    module = nn.Sequential(nn.Linear(512, 512), nn.Sequential(nn.Linear(512, 24)))
    other = with_onednn(module)
    assert isinstance(other.get_submodule("0"), OneDNNLinear)
    assert type(other.get_submodule("1.0")) is type(module[0]) is nn.Linear
    x = torch.randn(3, 512)
    with torch.no_grad():
        torch.testing.assert_close(other(x), module(x), rtol=1e-4, atol=1e-5)
        module[0].weight.mul_(2.0)
        module[0].bias = nn.Parameter(torch.randn(512))
        torch.testing.assert_close(other(x), module(x), rtol=1e-4, atol=1e-5)


def test_sampling_is_the_same_without_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide generator gives the same codes, and its transformer and denoiser call oneDNN."""
    torch.manual_seed(0)
    sizes = {**TINY, "dim": 512, "num_heads": 8, "denoiser_dim": 512, "num_layers": 1}
    model = BiGR(BiGRConfig(**sizes)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.05)
    config = SamplerConfig(num_iterations=4, num_denoise_steps=4)
    classes = torch.tensor([0, 1, 2])

    def sample() -> torch.Tensor:
        execution = ExecutionConfig(precision="float32")
        return Sampler(config, execution).sample(model, classes, seeds=range(3))

    calls: list[str] = []
    packed, wide = onednn.packed_product, onednn.with_onednn
    monkeypatch.setattr(
        "bigr.models.denoiser.packed_product",
        lambda *given: calls.append("denoiser") or packed(*given),
    )
    monkeypatch.setattr(
        networks, "with_onednn", lambda module: calls.append("transformer") or wide(module)
    )
    codes = sample()
    assert set(calls) == {"denoiser", "transformer"}
    monkeypatch.setattr("bigr.models.denoiser.HAS_ONEDNN", False)
    monkeypatch.setattr(networks, "HAS_ONEDNN", False)
    calls.clear()
    assert torch.equal(sample(), codes)
    assert calls == []
