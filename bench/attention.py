"""Attention in bfloat16 on a CPU: two matrix products and a softmax against PyTorch's fused kernel.

Without gradients, the project uses the fused kernel on processors with AMX. Here, both are timed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.common import arguments, compare  # noqa: E402
from bigr.models import attention  # noqa: E402
from bigr.models.attention import attend  # noqa: E402

CASES = {  # images, heads, positions, width of a head
    "digits": (64, 4, 17, 32),
    "clothes": (16, 4, 65, 32),
    "256 tokens": (4, 8, 257, 64),
    "BiGR-L": (2, 16, 257, 64),
}
WITHOUT_GRADIENTS = {**CASES, "1,024 tokens": (2, 8, 1025, 64)}


def main() -> None:
    options = arguments(__doc__, rounds=20)
    attention.HAS_MATRIX_UNIT = False
    for trained, cases in ((True, CASES), (False, WITHOUT_GRADIENTS)):
        for name, shape in cases.items():
            compare(
                f"attention {'with' if trained else 'without'} gradients, {name}, "
                f"{'x'.join(map(str, shape))}",
                _step(F.scaled_dot_product_attention, shape, trained),
                _step(attend, shape, trained),
                options.rounds,
            )


def _step(
    function: Callable[..., Tensor], shape: tuple[int, ...], is_trained: bool
) -> Callable[[], None]:
    images, heads, positions, width = shape
    # As the transformer lays them out: positions before heads.
    query, key, value, gradient = (
        torch.randn(images, positions, heads, width, dtype=torch.bfloat16).transpose(1, 2)
        for _ in range(4)
    )
    inputs = [one.requires_grad_(is_trained) for one in (query, key, value)]

    def step() -> None:
        if not is_trained:
            function(*inputs)
            return
        torch.autograd.grad(function(*inputs), inputs, gradient)

    return step


if __name__ == "__main__":
    main()
