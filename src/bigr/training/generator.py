"""Training of the generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bigr.checkpoints.identity import weights_sha256
from bigr.checkpoints.load import check_pair, load_autoencoder
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR, BiGRLoss
from bigr.models.codes import grid_to_tokens
from bigr.models.config import BiGRConfig
from bigr.training.batch import Batch
from bigr.training.module import Frozen, SchedulerFactory, TrainingModule

OptimizerFactory = Callable[[BiGR], torch.optim.Optimizer]


class GeneratorModule(TrainingModule):
    """Steps and optimiser of a :class:`~bigr.models.bigr.BiGR`.

    Args:
        model: sizes of the generator.
        optimizer: builds the optimiser from the model.
        lr_scheduler: see :class:`TrainingModule`.
        autoencoder: checkpoint of the B-AE that turns images into codes on the fly; frozen, and
            not part of this module's checkpoints. Not needed for data that has codes.
        deterministic_codes: bits [p > 0.5] instead of drawn ones.
        seed: see :class:`TrainingModule`.
    """

    def __init__(
        self,
        model: BiGRConfig,
        optimizer: OptimizerFactory,
        *,
        lr_scheduler: SchedulerFactory | None = None,
        autoencoder: str | None = None,
        deterministic_codes: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__("generator", model, lr_scheduler, seed)
        self.model = BiGR(model)
        self.optimizer_factory = optimizer
        self.deterministic_codes = deterministic_codes
        self._frozen: Frozen[BinaryAutoencoder] = Frozen(
            None if autoencoder is None else load_autoencoder(autoencoder)
        )

    @property
    def autoencoder(self) -> BinaryAutoencoder | None:
        """The frozen B-AE, on this module's device."""
        return self._frozen.on(self.device)

    def check(self, data: Any) -> None:
        """Raise ``ValueError`` also if the B-AE's codes aren't those that the generator learns."""
        super().check(data)
        if self._frozen.module is None:
            return
        check_pair(self.model, self._frozen.module)
        made_by = getattr(data, "tokenizer_sha256", None)
        if made_by is not None and made_by != weights_sha256(self._frozen.module):
            raise ValueError(
                "task.autoencoder isn't the B-AE that made these codes (its weights differ), so "
                "pictures would be wrong: give the right one, or task.autoencoder=null."
            )

    def codes_of(self, batch: Batch) -> Tensor:
        """(B, N, K) codes of a batch, drawn from the B-AE's probabilities if it has images.

        Raises:
            ValueError: if the batch has images and there is no autoencoder.
        """
        if batch.codes is not None:
            return batch.codes
        if self.autoencoder is None or batch.images is None:
            raise ValueError(
                "This data gives images, and the generator learns codes: set task.autoencoder to "
                "the checkpoint of a B-AE."
            )
        with torch.no_grad():
            bit_probs = self.autoencoder.encode(batch.images)
            codes = self.autoencoder.quantize(bit_probs, deterministic=self.deterministic_codes)
        return grid_to_tokens(codes)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Loss of one batch."""
        return self.step(batch, "train").loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """The same loss on held-out images, without dropout."""
        self.step(batch, "val")

    def step(self, batch: Batch, split: str) -> BiGRLoss:
        """Loss and bit accuracy, logged."""
        outcome = self.model.loss(self.codes_of(batch), batch.labels)
        is_training = split == "train"
        for name, value in (("loss", outcome.loss), ("bit_accuracy", outcome.bit_accuracy)):
            self.log(
                f"{split}/{name}",
                value.detach(),
                prog_bar=True,
                on_step=is_training,
                on_epoch=not is_training,
                sync_dist=not is_training,
                batch_size=len(batch.labels),
            )
        return outcome

    def configure_optimizers(self) -> Any:
        """Optimiser, and schedule if there is one."""
        return self.with_schedule(self.optimizer_factory(self.model))
