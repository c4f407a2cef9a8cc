"""Callbacks: pictures while training, weights to use afterwards."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.data.image_arrays import grid_image, save_grid
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.models.codes import tokens_to_grid
from bigr.sampling.sampler import Sampler
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig
from bigr.training.autoencoder_module import AutoencoderModule
from bigr.training.data.batch import Batch
from bigr.training.generator_module import GeneratorModule
from bigr.training.sharding import is_sharded, whole_weights

log = logging.getLogger(__name__)


class PictureCallback(Callback):
    """Base: one picture at each validation run, in a folder and in the logger.

    It is drawn in the middle of validation, when the weights are the averaged ones.

    Args:
        name: of the picture, ``<folder>/<name>_<step>.png``.
        folder: None is ``pictures`` in the trainer's root folder.
        columns: images per row.
    """

    def __init__(self, name: str, folder: str | None, columns: int) -> None:
        self.name = name
        self.folder = folder
        self.columns = columns

    def images(self, module: Any, batch: Batch) -> Tensor | None:
        """What to draw, (n, 3, H, W) in [0, 1], or None."""
        raise NotImplementedError

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw with the first batch."""
        is_first = batch_idx == 0 and dataloader_idx == 0
        if is_first and trainer.is_global_zero and not trainer.sanity_checking:
            with torch.random.fork_rng(devices=[]), torch.inference_mode():
                torch.manual_seed(0)
                images = self.images(pl_module, batch)
                if images is not None:
                    self._write(trainer, images)

    def _write(self, trainer: lightning.Trainer, images: Tensor) -> None:
        folder = Path(self.folder or Path(trainer.default_root_dir) / "pictures")
        step = trainer.global_step
        save_grid(images, folder / f"{self.name}_{step:07d}.png", self.columns)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(self.name, [grid_image(images, self.columns)], step=step)
            elif isinstance(logger, TensorBoardLogger):
                picture = torch.from_numpy(_as_array(images, self.columns))
                logger.experiment.add_image(self.name, picture, step, dataformats="HWC")


def _as_array(images: Tensor, columns: int) -> Any:
    import numpy as np

    return np.array(grid_image(images, columns))


class SampleGrid(PictureCallback):
    """Samples of the generator, one row a class, always from the same seeds.

    Args:
        sampler: settings.
        execution: precision and mode of the computation.
        num_classes: rows; the first classes.
        num_per_class: columns.
        folder: see :class:`PictureCallback`.
    """

    def __init__(
        self,
        sampler: SamplerConfig,
        *,
        execution: ExecutionConfig = DEFAULT_EXECUTION,
        num_classes: int = 10,
        num_per_class: int = 8,
        folder: str | None = None,
    ) -> None:
        super().__init__("samples", folder, columns=num_per_class)
        self.sampler = Sampler(sampler, execution)
        self.num_classes = num_classes
        self._has_told = False

    def images(self, module: GeneratorModule, batch: Batch) -> Tensor | None:  # noqa: ARG002
        """Sample and decode; without a B-AE there is nothing to decode with, and no picture."""
        reason = "set task.autoencoder to have some" if module.autoencoder is None else None
        if is_sharded(module):
            reason = "no process has all the weights"
        if reason is not None:
            if not self._has_told:
                log.info("no pictures of samples: %s", reason)
                self._has_told = True
            return None
        assert module.autoencoder is not None
        rows = min(self.num_classes, module.model.config.num_classes)
        classes = torch.arange(rows).repeat_interleave(self.columns)
        codes = self.sampler.sample(module.model, classes, seeds=range(len(classes)))
        return module.autoencoder.decode(tokens_to_grid(codes))


class ReconstructionGrid(PictureCallback):
    """Held-out images in odd rows, their reconstructions from drawn bits below them.

    Args:
        num_images: how many.
        columns: images per row.
        folder: see :class:`PictureCallback`.
    """

    def __init__(
        self, *, num_images: int = 16, columns: int = 8, folder: str | None = None
    ) -> None:
        super().__init__("reconstructions", folder, columns)
        self.num_images = num_images

    def images(self, module: AutoencoderModule, batch: Batch) -> Tensor:
        """Rows of originals and reconstructions by turns."""
        originals = module.images_of(batch)[: self.num_images]
        reconstructions = module.autoencoder(originals).reconstruction
        rows = zip(originals.split(self.columns), reconstructions.split(self.columns), strict=True)
        return torch.cat([image for row in rows for image in row])


class ExportWeights(Callback):
    """After fit, write the (averaged) weights as ``generator`` or ``autoencoder.safetensors``.

    Args:
        folder: None is the trainer's root folder.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the file."""
        network: Any = getattr(pl_module, "model", None) or getattr(pl_module, "autoencoder", None)
        if is_sharded(pl_module):
            weights = whole_weights(trainer)
            with torch.device("meta"):
                network = BiGR(network.config)
            if trainer.is_global_zero:
                network.to_empty(device="cpu")
                found = {name: value for name, value in weights.items() if name[:6] == "model."}
                network.load_state_dict({name[6:]: value for name, value in found.items()})
        if not trainer.is_global_zero:
            return
        folder = Path(self.folder or trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(network, BiGR):
            save_generator(network, folder / "generator.safetensors")
        elif isinstance(network, BinaryAutoencoder):
            save_autoencoder(network, folder / "autoencoder.safetensors")
