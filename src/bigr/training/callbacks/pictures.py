"""Callbacks that draw a picture at each validation run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from bigr.data.image_arrays import grid_image, pil_to_tensor, save_grid
from bigr.models.codes import tokens_to_grid
from bigr.sampling.sampler import Sampler
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig
from bigr.schema import PositiveInt, checked
from bigr.training.autoencoder_module import AutoencoderModule
from bigr.training.generator_module import GeneratorModule
from bigr.training.sharding import is_sharded

log = logging.getLogger(__name__)


class PictureCallback(Callback):
    """Base class: draws one picture per validation run, into a folder and the loggers.

    The first batch of validation draws it, while the module holds the averaged weights.

    Args:
        name: name of the picture, which is ``<folder>/<name>_<step>.png``.
        folder: None is ``pictures`` in the trainer's root folder.
        columns: images per row.
    """

    def __init__(self, name: str, folder: str | None, columns: int) -> None:
        self.name = name
        self.folder = folder
        self.columns = columns

    def images(self, module: LightningModule, batch: Any) -> Tensor | None:
        """Return the images to draw, (n, 3, H, W) in [0, 1], or None for no picture.

        Args:
            module: the module in training; of any class.
            batch: the first batch of validation.
        """
        raise NotImplementedError

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the picture after the first batch, without changing the random state."""
        is_first = batch_idx == 0 and dataloader_idx == 0
        if is_first and trainer.is_global_zero and not trainer.sanity_checking:
            with torch.random.fork_rng(devices=[]), torch.inference_mode():
                torch.manual_seed(0)
                images = self.images(pl_module, batch)
                if images is not None:
                    self._write(trainer, images)

    def _write(self, trainer: Trainer, images: Tensor) -> None:
        folder = Path(self.folder or Path(trainer.default_root_dir) / "pictures")
        step = trainer.global_step
        save_grid(images, folder / f"{self.name}_{step:07d}.png", self.columns)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(self.name, [grid_image(images, self.columns)], step=step)
            elif isinstance(logger, TensorBoardLogger):
                picture = pil_to_tensor(grid_image(images, self.columns))
                logger.experiment.add_image(self.name, picture, step)


class SampleGrid(PictureCallback):
    """Samples of a :class:`GeneratorModule`, one row per class, always from the same seeds.

    Args:
        sampler: sampling settings.
        num_classes: number of rows, for the first classes.
        num_per_class: number of columns.
        folder: see :class:`PictureCallback`.
        execution: precision and mode of the computation.
    """

    @checked
    def __init__(
        self,
        sampler: SamplerConfig,
        *,
        num_classes: PositiveInt = 10,
        num_per_class: PositiveInt = 8,
        folder: str | None = None,
        execution: ExecutionConfig = DEFAULT_EXECUTION,
    ) -> None:
        super().__init__("samples", folder, columns=num_per_class)
        self.sampler = Sampler(sampler, execution)
        self.num_classes = num_classes
        self._has_told = False

    def images(self, module: LightningModule, batch: Any) -> Tensor | None:
        """Return samples, or None if there are none; the reason is logged once."""
        if not isinstance(module, GeneratorModule):
            return None
        autoencoder, is_spread = module.autoencoder, is_sharded(module)
        if autoencoder is None or is_spread:
            reason = "no process has all weights" if is_spread else "task.autoencoder is not set"
            if not self._has_told:
                log.info("no pictures of samples: %s", reason)
            self._has_told = True
            return None
        rows = min(self.num_classes, module.model.config.num_classes)
        classes = torch.arange(rows).repeat_interleave(self.columns)
        codes = self.sampler.sample(module.sampled_model(), classes, seeds=range(len(classes)))
        return autoencoder.decode(tokens_to_grid(codes))


class ReconstructionGrid(PictureCallback):
    """Held-out images of an :class:`AutoencoderModule` in odd rows, reconstructions below them.

    Args:
        num_images: number of held-out images.
        columns: images per row.
        folder: see :class:`PictureCallback`.
    """

    @checked
    def __init__(
        self, *, num_images: PositiveInt = 16, columns: PositiveInt = 8, folder: str | None = None
    ) -> None:
        super().__init__("reconstructions", folder, columns)
        self.num_images = num_images

    def images(self, module: LightningModule, batch: Any) -> Tensor | None:
        """Return alternating rows of originals and reconstructions from drawn bits."""
        if not isinstance(module, AutoencoderModule):
            return None
        originals = module.images_of(batch)[: self.num_images]
        reconstructions = module.autoencoder(originals).reconstruction
        rows = zip(originals.split(self.columns), reconstructions.split(self.columns), strict=True)
        return torch.cat([image for row in rows for image in row])
