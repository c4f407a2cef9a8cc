"""Finding a device, and loading models onto it."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from bigr.checkpoints.load import check_pair, load_autoencoder, load_generator
from bigr.inference.generate import Models


def pick_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is the first available of CUDA, MPS and CPU.

    Raises:
        ValueError: if the device does not exist.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device={name} cannot be used here ({str(error).splitlines()[0]}); "
            "device=auto takes what is available."
        ) from error
    return device


def load_models(generator: str, autoencoder: str, device: str) -> Models:
    """Load a generator and its B-AE onto a device.

    Raises:
        CheckpointError: if a file cannot be used, or the two do not belong together.
        ValueError: if the device does not exist.
    """
    target = pick_device(device)
    models = Models(load_generator(generator), load_autoencoder(autoencoder))
    check_pair(*models)
    return Models(models.generator.to(target), models.autoencoder.to(target))


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor if the system reports it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or device.type
