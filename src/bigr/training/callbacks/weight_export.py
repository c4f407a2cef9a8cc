"""The callback that writes the trained weights as a file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.schema import checked
from bigr.training.sharding import is_sharded, whole_weights


class ExportWeights(Callback):
    """Writes ``generator.safetensors`` or ``autoencoder.safetensors`` after ``fit``.

    The weights are the averaged ones. A module without one of our networks is skipped.

    Args:
        folder: where to write; None is the trainer's root folder.
    """

    @checked
    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the weights after the last step."""
        found = [getattr(pl_module, name, None) for name in ("model", "autoencoder")]
        network = next((n for n in found if isinstance(n, BiGR | BinaryAutoencoder)), None)
        if isinstance(network, BiGR) and is_sharded(pl_module):
            network = _gather(network, trainer)
        if network is None or not trainer.is_global_zero:
            return
        folder = Path(self.folder or trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(network, BiGR):
            save_generator(network, folder / "generator.safetensors")
        else:
            save_autoencoder(network, folder / "autoencoder.safetensors")


def _gather(network: BiGR, trainer: Trainer) -> BiGR | None:
    """Return an unsharded copy of the generator on rank 0, and None elsewhere."""
    weights: dict[str, Any] = whole_weights(trainer)
    if not trainer.is_global_zero:
        return None
    with torch.device("meta"):
        copy = BiGR(network.config)
    copy.to_empty(device="cpu")
    prefix = "model."
    copy.load_state_dict(
        {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
    )
    return copy
