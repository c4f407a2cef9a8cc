"""Linear layers whose matrix product is in float8, for sampling.

Each row is scaled so that its largest value becomes the largest float8 (e4m3: 448, three mantissa
bits), and the product is scaled back. Every token has its own scale, so that the result does not
depend on the batch.

Shapes: M rows, I and O widths in and out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max
MULTIPLE = 16
"""Widths of the products must be multiples of this."""
SMALLEST_SCALE = 1e-12
MIN_CAPABILITY = (8, 9)
"""Smallest CUDA compute capability, that of Ada; Hopper and later GPUs have a higher one."""
PROBE_TOLERANCE = 0.02

ScaledProduct = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""From x (M, I), its scales (M, 1), a weight (O, I) and its scales (O, 1) to (M, O) bfloat16."""


def float8_missing(device: torch.device) -> str | None:
    """Return why ``device`` does not support float8 products, or None; a CPU emulates them."""
    if not hasattr(F, "scaled_mm"):
        return f"torch {torch.__version__} has no float8 products"
    if device.type == "cpu":
        return None
    if device.type != "cuda":
        return f"{device.type} devices have no float8 products"
    capability = torch.cuda.get_device_capability(device)
    if capability < MIN_CAPABILITY:
        name = torch.cuda.get_device_name(device)
        found, needed = (".".join(map(str, pair)) for pair in (capability, MIN_CAPABILITY))
        return f"float8 products need compute capability {needed}, {name} has {found}"
    return None


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return float8 values (M, I) and float32 scales (M, 1) whose product is ``x`` (M, I)."""
    x = x.float()
    scales = (x.abs().amax(dim=-1, keepdim=True) / LARGEST).clamp(min=SMALLEST_SCALE)
    return (x / scales).to(FLOAT8), scales


@functools.cache
def product_on(device: torch.device) -> ScaledProduct:
    """Return the first kind of product that works on ``device``.

    On some GPUs, products cannot scale rows, or do it wrongly. On a CPU, PyTorch 2.11 has no float8
    products at all.
    """
    rows = torch.arange(1.0, 33.0, device=device)[:, None].expand(32, 64)
    x, scales = quantize_rows(rows)
    expected = rows @ rows.t()
    for product in (scaled_by_rows, scaled_afterwards):
        try:
            result = product(x, scales, x, scales)
        except RuntimeError:
            continue
        if (result.float() / expected - 1.0).abs().max() < PROBE_TOLERANCE:
            return product
    return emulated


def scaled_by_rows(x: Tensor, x_scales: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
    by_row = F.ScalingType.RowWise
    return F.scaled_mm(x, weight.t(), x_scales, by_row, scales.t(), by_row)


def scaled_afterwards(x: Tensor, x_scales: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
    one, whole = torch.ones((), device=x.device), F.ScalingType.TensorWise
    product = F.scaled_mm(x, weight.t(), one, whole, one, whole, output_dtype=torch.float32)
    return (product * x_scales * scales.t()).bfloat16()


def emulated(x: Tensor, x_scales: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
    return ((x.float() @ weight.float().t()) * x_scales * scales.t()).bfloat16()


class Float8Linear(nn.Module):
    """x W^T + b with x and W in float8; bfloat16 out. For inference.

    Args:
        weight: (O, I), both multiples of 16; read once.
        bias: (O,), or None.
    """

    weight: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        rounded, scales = quantize_rows(weight.detach())
        self.register_buffer("weight", rounded)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if bias is None else bias.detach().bfloat16())
        self.product = product_on(weight.device)

    def forward(self, x: Tensor) -> Tensor:
        """(…, I) to (…, O)."""
        rows, scales = quantize_rows(x.flatten(0, -2))
        product = self.product(rows, scales, self.weight, self.scales)
        if self.bias is not None:
            product = product + self.bias
        return product.unflatten(0, x.shape[:-1])


def fits_float8(weight: Tensor) -> bool:
    """Return whether a weight (O, I) has widths that :class:`Float8Linear` supports."""
    return all(width % MULTIPLE == 0 for width in weight.shape)
