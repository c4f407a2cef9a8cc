"""A guide: another generator that replaces the unconditional half of guidance.

The guided logits are l_guide + s (l_main - l_guide), both at the same noisy bits (autoguidance,
Karras et al., arXiv 2406.02507). A guide makes the same codes as the main generator, but is worse:
smaller, trained for a shorter time, or averaged over fewer steps. It may see the class or not.
"""

from __future__ import annotations

import functools

import torch

from bigr.checkpoints.hub import find_model
from bigr.checkpoints.load import load_generator
from bigr.models.bigr import BiGR

CODES = ("code_dim", "grid_size")
SHARED = {
    "code_dim": "bits per token",
    "grid_size": "tokens per side",
    "attention": "which tokens a token sees",
    "objective": "what the denoiser predicts",
    "num_diffusion_steps": "noise levels",
    "noise_schedule": "noise schedule",
}


def load_guide(name: str, device: torch.device) -> BiGR:
    """Return the generator ``name`` on ``device``; the last one is kept in memory.

    Args:
        name: a file, the folder of a run, or a name as in :func:`bigr.checkpoints.hub.find_model`.
        device: device of the main generator.

    Raises:
        ValueError: if it cannot be found or is damaged.
    """
    try:
        path = find_model(name, "generator")
        state = path.stat().st_mtime_ns if path.exists() else 0
        return _loaded(str(path), state, str(device))
    except ValueError as error:
        raise ValueError(f"sampler.guide={name}: {error}") from error


@functools.lru_cache(maxsize=1)
def _loaded(path: str, _state: int, device: str) -> BiGR:
    return load_generator(path).to(device).eval()


def check_guide(guide: BiGR, model: BiGR, *, is_conditional: bool) -> None:
    """Raise ``ValueError`` unless ``guide`` can guide ``model``, with the class or without."""
    if model.config.objective == "categorical":
        raise ValueError("sampler.guide does not work with objective=categorical: leave it out.")
    shared = SHARED | ({"num_classes": "classes"} if is_conditional else {})
    for name, what in shared.items():
        ours, theirs = getattr(model.config, name), getattr(guide.config, name)
        if ours != theirs:
            advice = f"use a guide with {name}={ours}"
            if name in CODES:
                advice = "use a guide that was trained on the same codes"
            elif name == "num_classes":
                advice = "use a guide for the same classes, or sampler.conditional_guide=false"
            raise ValueError(
                f"sampler.guide has {name} {theirs} ({what}), but the generator has {ours}: "
                f"{advice}."
            )
