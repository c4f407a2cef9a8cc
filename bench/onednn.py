"""Linear layers on a CPU: PyTorch's own against those that call oneDNN while sampling.

The shapes are those of BiGR-L: a denoising step of a few tokens with guidance (two rows per token,
all layers of the denoiser), and the layers of a transformer pass of one image with guidance.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.common import L, arguments, compare  # noqa: E402
from bigr.models.onednn import SMALLEST_WEIGHT, OneDNNLinear, packed_product  # noqa: E402

ROWS = (16, 32, 64, 128)
REPETITIONS = 10
WIDTH, BLOCKS = L.denoiser_dim, L.denoiser_blocks
DENOISER = ((WIDTH, (3 * BLOCKS + 2) * WIDTH), *[(WIDTH, WIDTH)] * (2 * BLOCKS))
TRANSFORMER = (
    *((L.dim, 3 * L.dim), (L.dim, L.dim)),
    *((L.dim, L.feed_forward_dim), (L.dim, L.feed_forward_dim), (L.feed_forward_dim, L.dim)),
)
"""Widths in and out of the layers."""


@torch.inference_mode()
def main() -> None:
    options = arguments(__doc__, rounds=5)
    for dtype in SMALLEST_WEIGHT:
        layers = [nn.Linear(*widths).to(dtype) for widths in DENOISER]
        plain = [_plain(layer) for layer in layers]
        packed = [packed_product(layer.weight, layer.bias) for layer in layers]
        for rows in ROWS:
            name = f"denoiser, {rows} rows, {dtype}"
            x = torch.randn(rows, WIDTH, dtype=dtype)
            _check(plain, packed, x)
            compare(name, _run(plain, [x] * len(layers)), _run(packed, [x] * len(layers)),
                    options.rounds)  # fmt: skip
    layers = [nn.Linear(*widths, bias=False) for widths in TRANSFORMER]
    inputs = [torch.randn(2, L.seq_len + 1, width) for width, _ in TRANSFORMER]
    direct: list[Callable[[Tensor], Tensor]] = [OneDNNLinear(layer) for layer in layers]
    name = f"transformer layer, {2 * (L.seq_len + 1)} rows, float32"
    compare(name, _run(layers, inputs), _run(direct, inputs), options.rounds)


def _plain(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    return lambda x: F.linear(x, layer.weight, layer.bias)


def _check(
    plain: list[Callable[[Tensor], Tensor]], ours: list[Callable[[Tensor], Tensor]], x: Tensor
) -> None:
    tolerance = 1e-5 if x.dtype == torch.float32 else 2e-2
    for first, second in zip(plain, ours, strict=True):
        torch.testing.assert_close(first(x), second(x), rtol=tolerance, atol=tolerance)


def _run(layers: list, inputs: list[Tensor]) -> Callable[[], None]:  # type: ignore[type-arg]
    def run() -> None:
        for _ in range(REPETITIONS):
            for layer, x in zip(layers, inputs, strict=True):
                layer(x)

    return run


if __name__ == "__main__":
    main()
