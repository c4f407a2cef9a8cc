"""Models on a device, ready to be used."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from bigr.checkpoints.load import check_pair, load_autoencoder, load_generator
from bigr.inference.generate import Models
from bigr.models.noise_schedule import denoising_steps
from bigr.sampling.sampler import compute_dtype
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig

PEAK_BF16 = {
    "B200": 2.25e15,
    "H200": 9.89e14,
    "H100 PCIe": 7.56e14,
    "H100 NVL": 8.35e14,
    "H100": 9.89e14,
    "GH200": 9.89e14,
    "A100": 3.12e14,
    "A800": 3.12e14,
    "L40S": 3.62e14,
    "L40": 1.81e14,
    "L4": 1.21e14,
    "A10": 1.25e14,
    "A6000": 1.55e14,
    "RTX 4090": 1.65e14,
    "RTX 3090": 7.1e13,
}
"""Dense bf16 operations per second by the vendor's data sheets, without sparsity."""


def pick_device(name: str) -> torch.device:
    """``auto`` is the first of CUDA, MPS and CPU that is there.

    Raises:
        ValueError: for a device that isn't there.
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
            f"device={name} can't be used here ({str(error).splitlines()[0]}); "
            "device=auto takes what there is."
        ) from error
    return device


def check_sampler(
    models: Models, sampler: SamplerConfig, execution: ExecutionConfig = DEFAULT_EXECUTION
) -> None:
    """Raise ``ValueError`` if the generator can't be sampled with these settings."""
    config = models.generator.config
    if config.objective != "direct":
        denoising_steps(sampler.num_denoise_steps, config.num_diffusion_steps)
    compute_dtype(execution.precision, models.generator.device)


def load_models(generator: str, autoencoder: str, device: str) -> Models:
    """Load both, check that they belong together, move them to the device.

    Raises:
        CheckpointError: if one can't be used, or they don't fit.
        ValueError: for a device that isn't there.
    """
    target = pick_device(device)
    models = Models(load_generator(generator), load_autoencoder(autoencoder))
    check_pair(*models)
    return Models(models.generator.to(target), models.autoencoder.to(target))


def peak_flops(device: torch.device) -> float | None:
    """The device's dense bf16 peak, or None if it isn't known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for word, peak in PEAK_BF16.items() if word in name), None)


def device_name(device: torch.device) -> str:
    """Of the GPU, or of the processor where the system says it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or device.type
