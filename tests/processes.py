"""Running the entry points as people do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"


def environment(**variables: str) -> dict[str, str]:
    """This process's, with the checkout's package, without GPUs and launchers."""
    variables = {"PYTHONPATH": str(SOURCE), "CUDA_VISIBLE_DEVICES": "", **variables}
    left_out = ("HYDRA_FULL_ERROR", "NODE_RANK", "SLURM_NTASKS", "WANDB_MODE")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, **variables}


def python(
    *arguments: str, cwd: Path, timeout: float = 300, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run this Python with ``arguments``."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
