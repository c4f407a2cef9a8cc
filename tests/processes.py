"""Running the entry points as people do."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
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


def call_main(module: str, arguments: list[str], log: Path) -> None:
    """An entry point in this process, one thread, its output in a file: for a child to run."""
    import importlib

    import torch

    torch.set_num_threads(1)
    # A forkserver's children start theirs by it, too, and loader processes that do so outlive a
    # killed parent; a command that is started by itself forks them.
    multiprocessing.set_start_method("fork", force=True)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = [f"bigr.{module}", *arguments]
    importlib.import_module(f"bigr.{module}").main()


def ready_processes() -> multiprocessing.context.ForkServerContext:
    """Children that have everything imported when they start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            *("tests.processes", "hydra", "lightning", "bigr.tokenize", "bigr.train"),
            *(
                "bigr.training.tokenization",
                "bigr.training.generator_module",
                "bigr.training.callbacks.run_plan",
            ),
        ]
    )
    return context
