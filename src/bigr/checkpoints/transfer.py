"""Initialisation of a B-AE from a checkpoint with another number of bits."""

from __future__ import annotations

import os

from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.load import load_autoencoder
from bigr.models.autoencoder import BinaryAutoencoder

QUANTIZER = "quantizer."
SHOWN = 3


def load_for_finetuning(model: BinaryAutoencoder, path: str | os.PathLike[str]) -> list[str]:
    """Load the weights of a checkpoint into a B-AE.

    If ``code_dim`` differs, the quantizer keeps its initial weights.

    Args:
        model: receives the weights.
        path: any file that :func:`~bigr.checkpoints.load.load_autoencoder` reads.

    Returns:
        Lines for the log that say what was loaded.

    Raises:
        CheckpointError: if a tensor outside of the quantizer has another shape.
    """
    found = load_autoencoder(path)
    theirs, ours = found.state_dict(), model.state_dict()
    differing = [
        name
        for name in {**theirs, **ours}
        if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape
    ]
    wrong = [name for name in differing if not name.startswith(QUANTIZER)]
    if wrong:
        raise CheckpointError(
            f"task.init_from={path} has another configuration than this B-AE (tensors "
            f"{', '.join(wrong[:SHOWN])}{', …' if len(wrong) > SHOWN else ''} differ): only "
            "code_dim may differ."
        )
    if not differing:
        model.load_state_dict(theirs)
        return [f"loaded the weights of {path}"]
    kept = {name: value for name, value in theirs.items() if not name.startswith(QUANTIZER)}
    model.load_state_dict(kept, strict=False)
    return [
        f"loaded the weights of {path} except for the quantizer, which has "
        f"{found.config.code_dim} bits there and {model.config.code_dim} bits here"
    ]
