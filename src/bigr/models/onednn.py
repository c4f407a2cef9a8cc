"""Products on a CPU that call oneDNN directly, for sampling.

PyTorch multiplies float32 matrices on x86 with MKL. On an AMD EPYC, MKL reaches a quarter to a half
of the processor's speed for the few rows of a denoising step, and 85% for the rows of a transformer
pass; oneDNN reaches nearly all of it. In bfloat16, PyTorch does use oneDNN, which rearranges the
weights in every call unless they are packed. See ``docs/performance.md`` for measurements.

The operators are those that ``torch.compile`` uses for linear layers on a CPU. They are not part of
PyTorch's public interface, so :data:`HAS_ONEDNN` is False if they are missing, and
``tests/unit/models/test_onednn.py`` compares them with float64.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bigr.models.cpu import cpu_supports

HAS_ONEDNN = (
    platform.machine().lower() in ("x86_64", "amd64")
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
)
"""Whether PyTorch has the operators; nothing was measured on other kinds of processors."""
SMALLEST_WEIGHT = {torch.float32: 2**18} if HAS_ONEDNN else {}
"""Number of elements from which a weight of a type is multiplied faster; in float32, that of a
layer of width 512. Other types are not supported, and bfloat16 only where the processor has
instructions for it. Empty without the operators."""
if HAS_ONEDNN and cpu_supports("avx512_bf16", "amx_bf16"):
    # The environment variable ONEDNN_MAX_CPU_ISA can forbid the instructions.
    with contextlib.suppress(RuntimeError):
        torch.ops.mkldnn._reorder_linear_weight(torch.zeros(16, 16, dtype=torch.bfloat16), None)
        SMALLEST_WEIGHT[torch.bfloat16] = 1


def packed_product(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Return a function that computes x W^T + b, x being (…, I) of the type of the weight.

    Args:
        weight: (O, I) float32 or bfloat16 on a CPU; copied in a layout that oneDNN prefers.
        bias: (O,) of the same type, or None.
    """
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


class OneDNNLinear(nn.Module):
    """A linear layer with the weights of another one, which are not copied; without gradients."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """(…, I) to (…, O)."""
        weight, bias = self.linear.weight, self.linear.bias
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
