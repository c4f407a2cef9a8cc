"""Models on a device, ready to be used."""

from __future__ import annotations

import torch

from bigr.checkpoints.load import check_pair, load_autoencoder, load_generator
from bigr.evaluation.generate import Models
from bigr.models.diffusion import denoising_steps
from bigr.sampling.config import SamplerConfig


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


def check_sampler(models: Models, sampler: SamplerConfig) -> None:
    """Raise ``ValueError`` if the generator can't be sampled with these settings."""
    config = models.generator.config
    if config.objective != "direct":
        denoising_steps(sampler.num_denoise_steps, config.num_diffusion_steps)


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
