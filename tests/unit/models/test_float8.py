"""Float8 products against numbers rounded by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bigr import ExecutionConfig, Sampler, SamplerConfig
from bigr.models import float8
from bigr.models.float8 import Float8Linear, float8_missing, quantize_rows
from bigr.sampling.networks import compute_dtype
from tests.models import tiny_generator

CPU = torch.device("cpu")
NEEDS_OPERATOR = pytest.mark.skipif(
    torch.__version__ < "2.12", reason="PyTorch 2.11 has no float8 products on a CPU"
)
OPERATORS = [
    pytest.param(product, marks=NEEDS_OPERATOR)
    for product in (float8.scaled_by_rows, float8.scaled_afterwards)
]


def by_hand(x: np.ndarray) -> np.ndarray:
    """Rows scaled to 448 and rounded to e4m3: 4 significant bits, steps of 2^-9 below 2^-6."""
    scales = np.abs(x).max(axis=-1, keepdims=True) / 448.0
    scaled = x / scales
    exponents = np.maximum(np.floor(np.log2(np.abs(scaled))), -6.0)
    steps = 2.0 ** (exponents - 3.0)
    rounded: np.ndarray = np.round(scaled / steps) * steps * scales
    return rounded


def random(*shape: int, seed: int = 0) -> Tensor:
    """With rows of very different sizes."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.logspace(-4, 4, shape[0])[:, None]
    return torch.randn(*shape, generator=generator) * sizes


def test_rows_are_rounded_to_e4m3() -> None:
    x = random(50, 64)
    rounded, scales = quantize_rows(x)
    assert rounded.dtype == torch.float8_e4m3fn
    assert scales.shape == (50, 1)
    actual = rounded.double() * scales
    # Numbers halfway between two may go either way in float32.
    np.testing.assert_allclose(actual, by_hand(x.double().numpy()), rtol=0.07)
    same = np.isclose(actual, by_hand(x.double().numpy()), rtol=1e-5)
    assert same.mean() > 0.999


def test_rows_of_zeros_and_huge_numbers() -> None:
    x = torch.zeros(3, 16)
    x[1, 3], x[2, 5] = 1e30, float("nan")
    rounded, scales = quantize_rows(x)
    values = rounded.float() * scales
    assert (values[0] == 0).all()
    torch.testing.assert_close(values[1], x[1])
    assert values[2].isnan().any()


@pytest.mark.parametrize("product", [*OPERATORS, float8.emulated])
@pytest.mark.parametrize("has_bias", [False, True])
def test_linear(product: Callable[..., Tensor], has_bias: bool) -> None:
    x, weight = random(6, 32), random(48, 32, seed=1)
    bias = torch.arange(48.0) if has_bias else None
    layer = Float8Linear(weight, bias)
    layer.product = product
    expected = by_hand(x.double().numpy()) @ by_hand(weight.double().numpy()).T
    expected = expected + (0.0 if bias is None else bias.double().numpy())
    actual = layer(x.view(2, 3, 32))
    assert actual.shape == (2, 3, 48)
    assert actual.dtype == torch.bfloat16
    # bfloat16 has 8 significant bits; a sum of 32 products may cancel.
    sizes = np.abs(x.double().numpy()) @ np.abs(weight.double().numpy()).T + 50.0 * has_bias
    error = np.abs(actual.double().flatten(0, 1).numpy() - expected)
    assert (error / sizes).max() < 2**-8


def test_a_row_does_not_depend_on_the_others() -> None:
    layer, x = Float8Linear(random(48, 32)), random(6, 32, seed=2)
    for row in range(6):
        assert torch.equal(layer(x)[row], layer(x[row : row + 1])[0])


@NEEDS_OPERATOR
def test_products_that_do_not_scale_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they fail, or scale wrongly, rows are scaled afterwards, or products are emulated."""

    def fails(*_: Tensor) -> Tensor:
        raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")

    def wrong(x: Tensor, x_scales: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
        return (x.float() @ weight.float().t()) * x_scales[0] * scales[0]

    assert float8.product_on(CPU) is float8.scaled_by_rows
    for broken in (fails, wrong):
        monkeypatch.setattr(float8, "scaled_by_rows", broken)
        float8.product_on.cache_clear()
        assert Float8Linear(random(16, 16)).product is float8.scaled_afterwards
    monkeypatch.setattr(float8, "scaled_afterwards", fails)
    float8.product_on.cache_clear()
    assert Float8Linear(random(16, 16)).product is float8.emulated
    monkeypatch.undo()
    float8.product_on.cache_clear()


@pytest.mark.parametrize(
    ("device", "capability", "message"),
    [
        ("mps", None, "execution.precision=float8: mps devices have no float8 products; use bf"),
        ("cuda", (8, 0), "float8 products need compute capability 8.9, A100 has 8.0; use bf"),
    ],
)
def test_devices_without(
    device: str,
    capability: tuple[int, int] | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A100")
    with pytest.raises(ValueError, match=message):
        compute_dtype("float8", torch.device(device), 1024)


def test_an_older_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(nn.functional, "scaled_mm")
    assert float8_missing(CPU) == f"torch {torch.__version__} has no float8 products"


def test_it_is_checked_before_anything_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigr.sampling.networks.float8_missing", lambda _: "it has none")
    model, settings = tiny_generator(), SamplerConfig(num_denoise_steps=4)
    with pytest.raises(ValueError, match="precision=float8: it has none; use bfloat16 or auto"):
        Sampler(settings, ExecutionConfig(precision="float8")).check(model)
    Sampler(settings).check(model)


def test_devices_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert float8_missing(torch.device("cuda")) is None
    assert float8_missing(CPU) is None
    assert compute_dtype("float8", CPU, 1024) == torch.bfloat16
