"""What the processor can do."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def cpu_supports(*instructions: str) -> bool:
    """Return whether the processor has any of the instructions.

    Releases of PyTorch that cannot tell count as processors without them.

    Args:
        instructions: names of :func:`torch.cpu.get_capabilities`, such as ``amx_bf16``.
    """
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in instructions)
