"""How layers are changed, and a sampler that uses the changed ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bigr import BiGR, BiGRConfig, ExecutionConfig, Sampler, SamplerConfig
from bigr.models import onednn, products
from bigr.models.float8 import Float8Linear
from bigr.models.onednn import OneDNNLinear
from bigr.models.products import Products
from tests.models import TINY, tiny_generator
from tests.numbers import relative_error

FLOAT8 = Products(torch.bfloat16, is_float8=True)
needs_onednn = pytest.mark.skipif(not onednn.HAS_ONEDNN, reason="PyTorch has no such operators")


@pytest.mark.parametrize("calls_onednn", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(24, 40), (520, 512)])
def test_products_against_float64(
    dtype: torch.dtype, shape: tuple[int, int], calls_onednn: bool
) -> None:
    """Each kind takes float32, and returns its own type."""
    weight, bias, x = torch.randn(shape), torch.randn(shape[0]), torch.randn(7, shape[1])
    product = Products(dtype, calls_onednn=calls_onednn).product(weight, bias)(x)
    assert product.dtype == dtype
    expected = x.double() @ weight.double().T + bias.double()
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    assert relative_error(product.double(), expected) < tolerance


def test_float8_products_where_the_widths_fit() -> None:
    assert isinstance(FLOAT8.product(torch.randn(32, 48), torch.randn(32)), Float8Linear)
    narrow = FLOAT8.product(torch.randn(32, 24), torch.randn(32))
    assert not isinstance(narrow, Float8Linear)
    assert narrow(torch.randn(2, 24)).dtype == torch.bfloat16


def test_a_copy_in_float8_shares_the_rest() -> None:
    model = nn.Sequential(
        nn.Linear(24, 32), nn.Sequential(nn.Linear(32, 64), nn.ReLU()), nn.Linear(64, 24)
    )
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    copy = FLOAT8.changed(model)
    kinds = [type(module) for module in copy.modules() if not list(module.children())]
    assert kinds == [nn.Linear, Float8Linear, nn.ReLU, nn.Linear]
    assert copy.get_parameter("0.weight") is model.get_parameter("0.weight")
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    x = torch.randn(5, 24, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        error = (copy(x).float() - model(x).float()).norm() / model(x).float().norm()
    assert 0.0 < error < 0.1


def test_a_transformer_with_other_layers() -> None:
    model = tiny_generator()
    transformer = model.transformer.with_layers(FLOAT8.changed)
    quantized = [module for module in transformer.modules() if isinstance(module, Float8Linear)]
    linear = [
        module for module in model.transformer.layers.modules() if isinstance(module, nn.Linear)
    ]
    assert len(quantized) == len(linear)
    assert not any(isinstance(module, Float8Linear) for module in model.modules())
    assert transformer.mask_token is model.transformer.mask_token


def test_nothing_is_copied_without_a_change() -> None:
    """In bfloat16, autocast converts the layers."""
    transformer = tiny_generator().transformer
    assert transformer.with_layers(Products(torch.bfloat16).changed) is transformer
    assert transformer.with_layers(FLOAT8.changed) is not transformer


@needs_onednn
def test_large_layers_are_replaced_and_share_their_weights() -> None:
    module = nn.Sequential(nn.Linear(512, 512), nn.Sequential(nn.Linear(512, 24)))
    other = Products().changed(module)
    assert isinstance(other.get_submodule("0"), OneDNNLinear)
    assert type(other.get_submodule("1.0")) is type(module[0]) is nn.Linear
    x = torch.randn(3, 512)
    with torch.no_grad():
        torch.testing.assert_close(other(x), module(x), rtol=1e-4, atol=1e-5)
        module[0].weight.mul_(2.0)
        module[0].bias = nn.Parameter(torch.randn(512))
        torch.testing.assert_close(other(x), module(x), rtol=1e-4, atol=1e-5)


@needs_onednn
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
    packed, layer = products.packed_product, products.OneDNNLinear
    monkeypatch.setattr(
        products, "packed_product", lambda *given: calls.append("denoiser") or packed(*given)
    )
    monkeypatch.setattr(
        products, "OneDNNLinear", lambda given: calls.append("transformer") or layer(given)
    )
    codes = sample()
    assert set(calls) == {"denoiser", "transformer"}
    monkeypatch.setattr(products, "SMALLEST_WEIGHT", {})
    calls.clear()
    assert torch.equal(sample(), codes)
    assert calls == []
