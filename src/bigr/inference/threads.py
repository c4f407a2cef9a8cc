"""The number of threads in a container whose CPU time is limited."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path

log = logging.getLogger(__name__)

EXPLICIT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables with which users and launchers choose the number of threads."""


def cpu_limit(root: Path = Path("/")) -> int | None:
    """Return the CPU time that this process may use, in cores rounded up, or None without a limit.

    The limit is that of the process's control group (version 2) or of a group above it, whichever
    is lower.

    Args:
        root: folder that contains ``proc`` and ``sys``.
    """
    groups = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
        path = next(line.removeprefix("0::/") for line in lines if line.startswith("0::/"))
    except (OSError, StopIteration):
        return None
    limits = []
    for group in (groups / path, *(groups / path).parents):
        try:
            quota, period = (group / "cpu.max").read_text().split()
            limits.append(math.ceil(int(quota) / int(period)))
        except (OSError, ValueError):  # there is no file, or it says "max"
            continue
    return min(limits, default=None)


def limit_threads(root: Path = Path("/")) -> None:
    """Let PyTorch use at most as many threads as the limit on CPU time has cores.

    PyTorch knows which cores the process may run on, but not this limit. More threads than that
    would wait for each other. Nothing changes if the number of threads was chosen explicitly.

    Args:
        root: see :func:`cpu_limit`.
    """
    limit = cpu_limit(root)
    if limit is None or any(name in os.environ for name in EXPLICIT):
        return
    import torch

    if limit < torch.get_num_threads():
        torch.set_num_threads(limit)
        log.info("using %d threads, because CPU time is limited to that many cores", limit)
