"""A checkpoint's weights as the start of a network with other sizes."""

from __future__ import annotations

import os

from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.load import load_autoencoder
from bigr.models.autoencoder import BinaryAutoencoder

QUANTIZER = "quantizer."
SHOWN = 3


def load_for_finetuning(model: BinaryAutoencoder, path: str | os.PathLike[str]) -> list[str]:
    """Fill a B-AE from a checkpoint; a quantizer of another ``code_dim`` keeps its fresh weights.

    Args:
        model: filled in place.
        path: anything that :func:`~bigr.checkpoints.load.load_autoencoder` reads.

    Returns:
        Lines that say what was taken and what wasn't.

    Raises:
        CheckpointError: if anything but the quantizer has another shape.
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
            f"task.init_from={path} has other sizes than this B-AE ({', '.join(wrong[:SHOWN])}"
            f"{', …' if len(wrong) > SHOWN else ''}): only code_dim may differ."
        )
    if not differing:
        model.load_state_dict(theirs)
        return [f"weights of {path}"]
    kept = {name: value for name, value in theirs.items() if not name.startswith(QUANTIZER)}
    model.load_state_dict(kept, strict=False)
    return [
        f"weights of {path}, but for the quantizer: it had {found.config.code_dim} bits and starts "
        f"anew with {model.config.code_dim}"
    ]
