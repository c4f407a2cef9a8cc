"""Training of the generator with alignment to the features of a frozen encoder."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn

from bigr.losses.alignment import AlignmentConfig, AlignmentHead, alignment_loss
from bigr.models.config import BiGRConfig
from bigr.schema import checked
from bigr.training.data.batch import Batch
from bigr.training.generator_module import GeneratorModule, OptimizerFactory


class AlignedGeneratorModule(GeneratorModule):
    """Adds ``weight`` times :func:`~bigr.losses.alignment.alignment_loss` to the training loss.

    The hidden states of all tokens after one layer, masked or not, are projected by a head and
    compared with features of the clean image, which are stored with the codes. The head is
    trained with the generator and part of training checkpoints, but not of exported weights.

    Args:
        model: sizes of the generator.
        optimizer: called with the generator; the parameters of the head become another group of
            the optimiser, without weight decay.
        alignment: settings of the alignment.
        **settings: see :class:`~bigr.training.generator_module.GeneratorModule`.

    Raises:
        ValueError: if there are no features, or the generator has no such layer.
    """

    @checked
    def __init__(
        self,
        model: BiGRConfig,
        optimizer: OptimizerFactory,
        *,
        alignment: AlignmentConfig,
        **settings: Any,
    ) -> None:
        super().__init__(model, optimizer, **settings)
        if not alignment.feature_dim:
            raise ValueError(
                "task.alignment needs codes with features: create them with python -m "
                "bigr.tokenize features=…, and give their folder as data.root."
            )
        if alignment.layer >= model.num_layers:
            raise ValueError(
                f"task.alignment.layer={alignment.layer} must be below the number of layers, "
                f"{model.num_layers}."
            )
        self.alignment = alignment
        self.head = AlignmentHead(model.dim, alignment.hidden_dim, alignment.feature_dim)

    @property
    def is_aligned(self) -> bool:
        """Whether the present step is one with alignment."""
        until = self.alignment.until_step
        return until is None or self.global_step < until

    @property
    def returned_layer(self) -> int | None:
        """The layer whose hidden states are aligned; None after the last step with alignment."""
        return self.alignment.layer if self.is_aligned else None

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of the generator's parts and of the head."""
        return {**super().parts(), "alignment_head": list(self.head.parameters())}

    def configure_trainer(self, settings: dict[str, Any], world_size: int) -> dict[str, Any]:
        """Return the settings, see :class:`~bigr.training.base_module.TrainingModule`.

        Raises:
            ValueError: if the weights are to be sharded.
        """
        if isinstance(settings.get("strategy"), ModelParallelStrategy):
            raise ValueError("strategy=fsdp does not work with task.alignment: use strategy=ddp.")
        return super().configure_trainer(settings, world_size)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch.

        Raises:
            ValueError: if the batch has no features of the right shape.
        """
        batch = Batch.of(batch)
        loss = super().training_step(batch, batch_idx)
        hidden = None if self.outcome is None else self.outcome.hidden
        if hidden is None:
            # The head stays in the graph, which must not change during training for DDP.
            return loss + 0.0 * sum(parameter.sum() for parameter in self.head.parameters())
        config = self.model.config
        expected = (len(batch.labels), config.seq_len, self.alignment.feature_dim)
        if batch.features is None or tuple(batch.features.shape) != expected:
            found = None if batch.features is None else tuple(batch.features.shape)
            raise ValueError(
                f"task.alignment needs features of the shape {expected} in each batch, got "
                f"{found}: use codes that python -m bigr.tokenize features=… created, and "
                "data.features=true."
            )
        alignment = alignment_loss(self.head(hidden), batch.features)
        self.log("train/alignment", alignment.detach())
        return loss + self.alignment.weight * alignment

    def configure_optimizers(self) -> Any:
        """Return the optimiser with the parameters of the head, and its schedule."""
        optimizer = self.optimizer_factory(self.model)
        optimizer.add_param_group({"params": list(self.head.parameters()), "weight_decay": 0.0})
        return self.with_schedule(optimizer)
