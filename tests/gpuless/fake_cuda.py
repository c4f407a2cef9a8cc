"""Tensors that claim to be on a CUDA device, on a machine that has none.

PyTorch's fake tensors have a shape, a type and a device, but no values. An operation that mixes
devices fails as on a GPU, and nothing is computed, so that models of any size fit. There are two
limits: the backward pass asks the CUDA runtime for a stream, and ``Module.to`` fails. Models are
therefore built on the device, and only forward passes run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda")
PRODUCTS = {
    "mm", "addmm", "bmm", "convolution",
    "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention",
}  # fmt: skip
NORMS = {"_fused_rms_norm", "native_layer_norm", "native_group_norm"}
FLASH, EFFICIENT = (
    getattr(torch.ops.aten, f"_scaled_dot_product_{kind}_attention")
    for kind in ("flash", "efficient")
)
MOST_FLASH = 256
"""Widest head that flash attention supports."""


@contextlib.contextmanager
def fake_cuda() -> Iterator[None]:
    """Let new tensors be fake, and let PyTorch behave as with a CUDA device that has bfloat16.

    ``torch.Generator`` gives a generator of the CPU for every device; random numbers of fake
    tensors have no values. Attention, for which PyTorch asks the CUDA runtime, uses the kernels
    that it has on a GPU.
    """
    make = torch.Generator
    with FakeTensorMode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "Generator", lambda device="cpu": make())
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
        patch.setattr(F, "scaled_dot_product_attention", _attention)
        yield


def _attention(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool = False) -> Tensor:
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if query.shape[-1] <= MOST_FLASH and query.dtype in (torch.bfloat16, torch.float16):
        return FLASH(query, key, value, 0.0, is_causal)[0]
    return EFFICIENT(query, key, value, None, False, 0.0, is_causal)[0]


class Operations(TorchDispatchMode):
    """Records which operators ran on tensors of which types.

    Args:
        numbers: answers to operators that read an integer from a tensor; the last one is repeated.
        counts: numbers of rows of results of ``nonzero``, likewise. Numbers that are read as bool
            are False, and as float 0. Without these arguments, all of them fail.
    """

    def __init__(self, numbers: tuple[int, ...] = (), counts: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.found: dict[str, set[torch.dtype]] = {}
        self._numbers, self._counts = list(numbers), list(counts)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        floats = {one.dtype for one in tensors if one.is_floating_point() and one.is_cuda}
        self.found.setdefault(name, set()).update(floats)
        if name == "_local_scalar_dense" and self._numbers:
            if tensors[0].dtype == torch.bool or tensors[0].is_floating_point():
                return tensors[0].dtype.is_floating_point and 0.0
            return self._numbers.pop(0) if len(self._numbers) > 1 else self._numbers[0]
        if name == "nonzero" and self._counts:
            count = self._counts.pop(0)
            self._counts.append(count)
            shape = (count, tensors[0].ndim)
            return torch.empty(shape, dtype=torch.int64, device=tensors[0].device)
        return func(*args, **(kwargs or {}))

    def types(self, names: set[str]) -> set[torch.dtype]:
        """Return the floating-point types of the inputs of all operators with these names."""
        return {dtype for name in names for dtype in self.found.get(name, set())}

    def names(self, dtype: torch.dtype) -> set[str]:
        """Return the operators that had an input of a type."""
        return {name for name, dtypes in self.found.items() if dtype in dtypes}
