"""Networks without values, for weights that are loaded into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def without_values() -> Iterator[None]:
    """Build networks whose parameters and buffers have shapes, but neither memory nor values.

    This is ``torch.device("meta")`` without the random initialisation of parameters, which has no
    effect there. PyTorch would import its compiler for it, which takes about two seconds.
    """
    with torch.device("meta"), _NoRandomValues():
        yield


class _NoRandomValues(TorchFunctionMode):
    """Leaves out the functions with which layers draw their initial weights."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
