"""A task: a LightningModule that knows nothing of the ones in BiGR-Lightning."""

from __future__ import annotations

from typing import Annotated

import lightning
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor

from bigr import BinaryAutoencoder, BinaryAutoencoderConfig


class DenoisingAutoencoder(lightning.LightningModule):
    """Train a B-AE to remove noise from its input, with the mean squared error.

    ``bigr.train`` calls :meth:`check`, and writes ``autoencoder.safetensors`` at the end because
    there is an attribute ``autoencoder``. Both are optional.

    Args:
        autoencoder: sizes of the B-AE.
        noise: standard deviation of the noise on images in [0, 1].
        lr: learning rate of AdamW.
    """

    def __init__(
        self,
        autoencoder: BinaryAutoencoderConfig,
        *,
        noise: Annotated[float, Ge(0)] = 0.1,
        lr: Annotated[float, Gt(0)] = 2e-3,
    ) -> None:
        super().__init__()
        self.autoencoder = BinaryAutoencoder(autoencoder)
        self.noise = noise
        self.lr = lr

    def check(self, data: lightning.LightningDataModule) -> None:
        """Raise ``ValueError`` if the images are of another size."""
        ours, theirs = self.autoencoder.config.image_size, getattr(data, "image_size", None)
        if theirs not in (None, ours):
            raise ValueError(f"data.image_size={theirs}, but autoencoder.image_size is {ours}.")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the error of the reconstruction."""
        images, _ = batch
        noisy = images + self.noise * torch.randn_like(images)
        loss = F.mse_loss(self.autoencoder(noisy).reconstruction, images)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the error without noise."""
        images, _ = batch
        self.log("val/loss", F.mse_loss(self.autoencoder(images).reconstruction, images))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW."""
        return torch.optim.AdamW(self.parameters(), self.lr)
