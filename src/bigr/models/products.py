"""How the linear layers of a generator multiply while sampling, without gradients.

:class:`Products` is chosen once per generator and used by the transformer and the denoiser. Another
kind of product needs a condition in its two methods, and nothing else.

Shapes: I and O widths of a layer, in and out.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigr.models.float8 import Float8Linear, fits_float8
from bigr.models.onednn import SMALLEST_WEIGHT, OneDNNLinear, packed_product

Product = Callable[[Tensor], Tensor]
"""A linear layer from (…, I) to (…, O), as a module or as a function."""


@dataclasses.dataclass(frozen=True)
class Products:
    """The kind of matrix products of a generator.

    Args:
        dtype: float32 or bfloat16, the type of the products.
        is_float8: multiply in float8 where the widths of a layer allow it, see
            :mod:`bigr.models.float8`.
        calls_onednn: whether large layers on a CPU call oneDNN, see :mod:`bigr.models.onednn`.
            Layers that will be compiled should not, because the compiler chooses their products.
    """

    dtype: torch.dtype = torch.float32
    is_float8: bool = False
    calls_onednn: bool = True

    def product(self, weight: Tensor, bias: Tensor) -> Product:
        """Return a function that computes x W^T + b for many x of any floating type.

        The weights are read now, so later changes of them may have no effect.

        Args:
            weight: (O, I).
            bias: (O,).
        """
        if self.is_float8 and fits_float8(weight):
            return Float8Linear(weight, bias)
        weight, bias = weight.to(self.dtype), bias.to(self.dtype)
        smallest = SMALLEST_WEIGHT.get(self.dtype, torch.inf)
        if self.calls_onednn and weight.device.type == "cpu" and weight.numel() >= smallest:
            multiply = packed_product(weight, bias)
        else:
            multiply = functools.partial(F.linear, weight=weight, bias=bias)
        return multiply if self.dtype == torch.float32 else lambda x: multiply(x.to(self.dtype))

    def changed(self, module: nn.Module) -> nn.Module:
        """Return a copy of ``module`` whose linear layers multiply in this way.

        Layers that already do, or that autocast converts to bfloat16, are kept, and ``module``
        itself is returned if that is true of all its layers. All parameters are shared with
        ``module``, and later changes of them have an effect, except for float8 weights.
        """
        if isinstance(module, nn.Linear):
            weight = module.weight
            if self.is_float8:
                return Float8Linear(weight, module.bias) if fits_float8(weight) else module
            can_call = self.calls_onednn and weight.device.type == "cpu"
            if not can_call or not self.dtype == weight.dtype == torch.float32:
                return module
            is_large = weight.numel() >= SMALLEST_WEIGHT.get(torch.float32, torch.inf)
            return OneDNNLinear(module) if is_large else module
        children = {name: self.changed(child) for name, child in module.named_children()}
        if all(child is module._modules[name] for name, child in children.items()):
            return module
        clone = copy.copy(module)
        clone.__dict__["_modules"] = children
        return clone


FLOAT32 = Products()
"""Products in float32."""
