"""Timing in pairs: both sides in one process, by turns, so that a busy machine disturbs both."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from bigr import BiGR, BiGRConfig
from bigr.inference.devices import device_name

RESULTS: list[Path | None] = []
"""Where to save, from the command line."""
SIZES = BiGRConfig(
    dim=256,
    num_layers=8,
    num_heads=8,
    grid_size=16,
    code_dim=24,
    num_classes=1000,
    denoiser_dim=256,
    denoiser_blocks=3,
    dropout=0.0,
    class_dropout=0.0,
)


L = BiGRConfig.preset("l", grid_size=16, code_dim=24, num_classes=1000)
"""BiGR-L-d24 at 256x256."""
XL = BiGRConfig.preset("xl", grid_size=16, code_dim=24, num_classes=1000)
"""BiGR-XL-d24 at 256x256."""


def matrix_rate(dtype: torch.dtype) -> float:
    """Operations per second of a 2048x1024x4096 product, best of ten: the floor's measure."""
    first, second = torch.randn(2048, 1024).to(dtype), torch.randn(1024, 4096).to(dtype)
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        first @ second
        best = min(best, time.perf_counter() - began)
    return 2 * 2048 * 1024 * 4096 / best


def arguments(
    description: str | None, rounds: int, flags: tuple[str, ...] = ()
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag in flags:
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--rounds", type=int, default=rounds, help="runs of each side")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--save", type=Path, help="append the results to this file, a JSON a line")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    RESULTS.append(options.save)
    return options


def randomised(config: BiGRConfig) -> BiGR:
    """A model whose zero-initialised layers aren't zero, as after training."""
    torch.manual_seed(0)
    model = BiGR(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.abs().max() == 0:
                parameter.normal_(0.0, 0.05)
    return model


def confident(config: BiGRConfig) -> BiGR:
    """The same, but as sure of its bits as trained models: flips have a probability of about 3%.

    The sampler leaves out tokens that can't win, and how many those are depends on this. The
    model of ``make demo`` has a mean confidence of 0.95.
    """
    model = randomised(config)
    with torch.no_grad():
        model.transcoder.denoiser.output.bias.fill_(-3.5)
    return model


def compare(
    name: str, plain: Callable[[], object], ours: Callable[[], object], rounds: int
) -> float:
    """Print medians and their ratio; the first round of each side is not counted."""
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(rounds + 1):
        for side, function in (("plain", plain), ("ours", ours)):
            began = time.perf_counter()
            function()
            seconds[side].append(time.perf_counter() - began)
    medians = {side: statistics.median(values[1:]) for side, values in seconds.items()}
    ratio = medians["plain"] / medians["ours"]
    print(
        f"{name}: plain {medians['plain']:.3f} s, ours {medians['ours']:.3f} s, "
        f"{ratio:.2f}x as fast (medians of {rounds}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__})"
    )
    if RESULTS and RESULTS[-1]:
        save(RESULTS[-1], {"name": name, "seconds": medians, "ratio": ratio, "rounds": rounds})
    return ratio


def save(path: Path, result: dict[str, Any]) -> None:
    """Append ``result`` with the machine, the versions and the commit it belongs to."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    about = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "device": device_name(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    with path.open("a") as file:
        file.write(json.dumps({**result, **about}) + "\n")
