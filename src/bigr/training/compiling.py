"""``torch.compile``, with a fallback if it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal

import torch

log = logging.getLogger(__name__)

CompileMode = bool | Literal["auto"]


def wants_compiling(mode: CompileMode, device: torch.device) -> bool:
    """Return whether to compile; ``auto`` does so on GPUs that Triton supports."""
    if mode != "auto":
        return bool(mode)
    if device.type != "cuda":
        return False
    if torch.cuda.get_device_capability(device) < (7, 0):
        log.info("not compiled: Triton needs a GPU of compute capability 7.0 or newer")
        return False
    return True


class Compiled:
    """A function that is compiled at its first call, or runs uncompiled if that fails.

    Args:
        function: function to compile.
        is_on: whether to compile it.
    """

    def __init__(self, function: Callable[..., Any], *, is_on: bool) -> None:
        self.is_on = is_on
        self._function = function
        self._compiled = torch.compile(function, dynamic=False) if is_on else function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, compiled or not."""
        if not self.is_on:
            return self._function(*args, **kwargs)
        from torch._dynamo.exc import TorchDynamoException

        try:
            return self._compiled(*args, **kwargs)
        except TorchDynamoException as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
            log.warning("torch.compile failed, training continues without it, slower: %s", reason)
            self.is_on = False
            return self._function(*args, **kwargs)
