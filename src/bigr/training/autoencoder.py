"""Training of the B-AE with L1 + MSE."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio

from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.config import BinaryAutoencoderConfig, check_range
from bigr.training.batch import Batch
from bigr.training.module import SchedulerFactory, TrainingModule

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


class AutoencoderModule(TrainingModule):
    """Steps and optimiser of a :class:`~bigr.models.autoencoder.BinaryAutoencoder`.

    loss = ``l1_weight`` mean|x - y| + ``mse_weight`` mean (x - y)^2
    + ``code_weight`` mean z(1 - z), with z the bit probabilities; bits are drawn, the gradient is
    straight-through.

    Args:
        autoencoder: sizes of the B-AE.
        optimizer: builds the optimiser from the trainable parameters.
        l1_weight: of the absolute error.
        mse_weight: of the squared error.
        code_weight: of the bits' variance; above 0, it makes the encoder sure of its bits.
        lr_scheduler: see :class:`TrainingModule`.
        seed: see :class:`TrainingModule`.
    """

    def __init__(
        self,
        autoencoder: BinaryAutoencoderConfig,
        optimizer: OptimizerFactory,
        *,
        l1_weight: float = 1.0,
        mse_weight: float = 1.0,
        code_weight: float = 0.0,
        lr_scheduler: SchedulerFactory | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__("autoencoder", autoencoder, lr_scheduler, seed)
        self.autoencoder = BinaryAutoencoder(autoencoder)
        self.optimizer_factory = optimizer
        self.l1_weight = l1_weight
        self.mse_weight = mse_weight
        self.code_weight = code_weight
        for name in ("l1_weight", "mse_weight", "code_weight"):
            check_range(self, name, 0.0)

    def images_of(self, batch: Batch) -> Tensor:
        """The batch's images.

        Raises:
            ValueError: if it has none.
        """
        if batch.images is None:
            raise ValueError(
                "This data gives codes, and the B-AE learns images: choose other data."
            )
        return batch.images

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Loss of one batch."""
        images = self.images_of(batch)
        output = self.autoencoder(images)
        l1 = F.l1_loss(output.reconstruction, images)
        mse = F.mse_loss(output.reconstruction, images)
        bit_variance = (output.bit_probs * (1.0 - output.bit_probs)).mean()
        loss = self.l1_weight * l1 + self.mse_weight * mse + self.code_weight * bit_variance
        metrics = {"train/loss": loss, "train/l1": l1, "train/mse": mse}
        metrics["train/bit_variance"] = bit_variance
        for name, value in metrics.items():
            self.log(name, value.detach(), prog_bar=name == "train/loss")
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """Errors of the clamped reconstruction, and how far the bits are from coin flips."""
        images = self.images_of(batch)
        output = self.autoencoder(images)
        reconstruction = output.reconstruction.clamp(0, 1)
        probs = output.bit_probs
        metrics = {
            "val/l1": F.l1_loss(reconstruction, images),
            "val/mse": F.mse_loss(reconstruction, images),
            "val/psnr": peak_signal_noise_ratio(reconstruction, images, data_range=1.0),
            "val/bit_entropy": F.binary_cross_entropy(probs, probs)
            / torch.log(probs.new_tensor(2)),
        }
        for name, value in metrics.items():
            self.log(
                name,
                value,
                prog_bar=name == "val/psnr",
                sync_dist=True,
                batch_size=len(images),
            )

    def configure_optimizers(self) -> Any:
        """Optimiser, and schedule if there is one."""
        trainable = [p for p in self.autoencoder.parameters() if p.requires_grad]
        return self.with_schedule(self.optimizer_factory(trainable))
