"""The callback that writes the trained weights to a separate file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from bigr.checkpoints.errors import SaveError
from bigr.checkpoints.hub import ADAPTER_FOLDER
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.models.without_values import without_values
from bigr.schema import checked
from bigr.training.checkpoint_files import saved_checkpoints, step_of
from bigr.training.generator_module import GeneratorModule
from bigr.training.sharding import is_sharded, whole_weights


class ExportError(ValueError):
    """The trained weights could not be written; the message says where they are and what to do."""


class ExportWeights(Callback):
    """Writes ``generator.safetensors`` or ``autoencoder.safetensors`` after ``fit``.

    The weights are the averaged ones. A generator that was trained with LoRA is written as an
    adapter, to the folder ``adapter``. A module without one of our networks is skipped.

    Args:
        folder: where to write; None is the trainer's root folder.
        merge: whether to also write the weights of a generator to which its adapter was added.
    """

    @checked
    def __init__(self, folder: str | None = None, *, merge: bool = False) -> None:
        self.folder = folder
        self.merge = merge

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the weights after the last step.

        Raises:
            ExportError: if they cannot be written, for example because the disk is full.
        """
        found = [getattr(pl_module, name, None) for name in ("model", "autoencoder")]
        network = next((n for n in found if isinstance(n, BiGR | BinaryAutoencoder)), None)
        if isinstance(network, BiGR) and is_sharded(pl_module):
            network = _gather(network, trainer)
        if network is None or not trainer.is_global_zero:
            return
        folder = Path(self.folder or trainer.default_root_dir)
        is_generator = isinstance(network, BiGR)
        path = folder / ("generator.safetensors" if is_generator else "autoencoder.safetensors")
        tuned = pl_module.fine_tuning if isinstance(pl_module, GeneratorModule) else None
        try:
            if tuned is not None and tuned.lora is not None:
                tuned.save_adapter(folder / ADAPTER_FOLDER)
                if self.merge:
                    save_generator(tuned.sampled_model(), path)
            elif isinstance(network, BiGR):
                save_generator(network, path)
            else:
                save_autoencoder(network, path)
        except SaveError as error:
            raise ExportError(
                f"The training is complete, but its weights could not be written to {path}: "
                f"{error.reason}. {_what_is_safe(trainer, path)}"
            ) from error


def _what_is_safe(trainer: Trainer, path: Path) -> str:
    """Return sentences that say which checkpoint there is, and how to get the weights from it."""
    folders = [getattr(one, "folder", None) for one in trainer.checkpoint_callbacks]
    found = [file for folder in folders if folder for file in saved_checkpoints(Path(folder))]
    saved = [file for file in found if step_of(file) <= trainer.global_step]
    if not saved:
        return "There is no checkpoint of this run. Free some space, and train again."
    if step_of(saved[0]) < trainer.global_step:
        return (
            f"The last checkpoint, {saved[0]}, is of step {step_of(saved[0])} of "
            f"{trainer.global_step}. Free some space, and resume from it with resume=auto."
        )
    force = " --force" if path.exists() else ""
    return (
        f"They are safe in the last checkpoint. Free some space, and run: python -m bigr.convert "
        f"{saved[0]} {path}{force}"
    )


def _gather(network: BiGR, trainer: Trainer) -> BiGR | None:
    """Return an unsharded copy of the generator on rank 0, and None elsewhere."""
    weights: dict[str, Any] = whole_weights(trainer)
    if not trainer.is_global_zero:
        return None
    with without_values():
        copy = BiGR(network.config)
    copy.to_empty(device="cpu")
    copy.settings = network.settings
    prefix = "model."
    copy.load_state_dict(
        {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
    )
    return copy
