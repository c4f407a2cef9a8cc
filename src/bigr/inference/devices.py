"""Finding a device, and the precision that stands for a type."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from bigr.sampling.sampler_config import Precision

PRECISIONS: dict[torch.dtype, Precision] = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "bfloat16",
}


UNSUPPORTED = ("mps", "xpu")


def pick_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is a CUDA GPU if there is one, or the CPU.

    Raises:
        ValueError: if the device does not exist, or is Apple's MPS or Intel's XPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.split(":")[0] in UNSUPPORTED:
        raise ValueError(
            f"device={name} is not supported, because nothing has been tested on Apple's MPS and "
            "Intel's XPU: use device=cpu."
        )
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device={name} cannot be used here ({str(error).splitlines()[0]}); "
            "device=auto uses what is available."
        ) from error
    return device


def precision_of(dtype: torch.dtype) -> Precision:
    """Return the precision of the matrix products that stands for a type.

    ``float16`` stands for bfloat16, which is as small and cannot overflow.

    Raises:
        ValueError: if the type is not float32, bfloat16 or float16.
    """
    if dtype not in PRECISIONS:
        names = ", ".join(map(str, PRECISIONS))
        raise ValueError(f"dtype={dtype}: a pipeline computes in one of {names}.")
    return PRECISIONS[dtype]


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor if the system reports it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or device.type
