"""The first stage: what the machine is, and what it can do at best."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import torch

from bench.acceptance.context import Context, Values, exact_products
from bench.stand_ins import CONTENTS
from bigr.inference.devices import device_name

PEAKS = {"H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "B200": 2250, "A100": 312}
"""Dense bfloat16 TFLOP/s of the data sheets by a part of the device's name, longer parts first."""


def peak_tflops(name: str) -> float | None:
    """Return the data sheet's dense bfloat16 rate of a GPU, or None if it is not listed."""
    return next((float(rate) for part, rate in PEAKS.items() if part in name), None)


def describe(context: Context) -> Values:
    """Return names and versions, and measured rates of matrix products and copies."""
    name = device_name(context.device)
    values: Values = {
        "device": name,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": _commit(),
        "settings_checked": "no, pydantic is missing" if _has_stand_in() else "yes",
    }
    if context.is_cuda:
        about = torch.cuda.get_device_properties(context.device)
        values["memory_gb"] = about.total_memory / 1e9
        values["capability"] = f"{about.major}.{about.minor}"
        values["cuda"] = torch.version.cuda
    peak = peak_tflops(name)
    if peak is not None:
        values["peak_tflops"] = peak
    size = context.count(8192, 256)
    for kind in ("bfloat16", "float32"):
        with exact_products():
            values[f"{kind}_tflops"] = _product_rate(context, size, getattr(torch, kind)) / 1e12
    source = torch.zeros(context.count(2**31, 2**20), dtype=torch.uint8, device=context.device)
    target = torch.empty_like(source)
    seconds = context.seconds(lambda: target.copy_(source), rounds=5)
    values["copy_gb_per_second"] = 2 * source.numel() / seconds / 1e9
    return values


def _product_rate(context: Context, size: int, dtype: torch.dtype) -> float:
    """Return the operations per second of a square product of random matrices."""
    first, second = (torch.randn(size, size, device=context.device).to(dtype) for _ in range(2))
    repeats = 10 if dtype == torch.bfloat16 else 2

    def multiply() -> None:
        for _ in range(repeats):
            first @ second

    return repeats * 2 * size**3 / context.seconds(multiply)


def _has_stand_in() -> bool:
    import pydantic

    return pydantic.TypeAdapter is CONTENTS["pydantic"]["TypeAdapter"]


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return found.stdout.strip()
