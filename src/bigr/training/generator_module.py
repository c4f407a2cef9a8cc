"""Training of the generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bigr.checkpoints.identity import weights_sha256
from bigr.checkpoints.load import check_pair, load_autoencoder
from bigr.data.seeds import mixed_seed
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR, BiGRLoss
from bigr.models.codes import grid_to_tokens
from bigr.models.config import BiGRConfig
from bigr.models.training_draws import TrainingDraws, draw_num_masked, draw_training
from bigr.training.base_module import (
    Frozen,
    SchedulerFactory,
    TrainingModule,
    batch_counter,
    is_logged,
    step_seed,
)
from bigr.training.compiling import Compiled, CompileMode, wants_compiling
from bigr.training.data.batch import Batch
from bigr.training.sharding import is_sharded, shard

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
        compile: ``auto`` compiles on GPUs; True, False.
        recompute_activations: of every transformer layer in the backward pass: less memory, a
            third more time.
        masked_only: leave known tokens out of the transcoder; ``auto`` does unless compiled, for
            then shapes have to stay the same. The loss is the same.
        seed: see :class:`TrainingModule`.
        max_skipped_steps: see :class:`TrainingModule`.
    """

    def __init__(
        self,
        model: BiGRConfig,
        optimizer: OptimizerFactory,
        *,
        lr_scheduler: SchedulerFactory | None = None,
        autoencoder: str | None = None,
        deterministic_codes: bool = False,
        compile: CompileMode = "auto",
        recompute_activations: bool = False,
        masked_only: CompileMode = "auto",
        seed: int = 0,
        max_skipped_steps: int = 10,
    ) -> None:
        super().__init__("generator", model, lr_scheduler, seed, max_skipped_steps)
        self.model = BiGR(model)
        self.model.transformer.recomputes = recompute_activations
        self.optimizer_factory = optimizer
        self.deterministic_codes = deterministic_codes
        self.compile_mode = compile
        self.masked_only = masked_only
        self._frozen: Frozen[BinaryAutoencoder] = Frozen(
            None if autoencoder is None else load_autoencoder(autoencoder)
        )
        self._loss: Compiled = Compiled(self.model.loss, is_on=False)
        self.outcome: BiGRLoss | None = None
        """Of the last step, for callbacks."""
        self.draws: TrainingDraws | None = None
        """Of the last step."""
        self._figures: Tensor | None = None

    @property
    def autoencoder(self) -> BinaryAutoencoder | None:
        """The frozen B-AE, on this module's device."""
        return self._frozen.on(self.device)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Transformer and transcoder."""
        return {
            "transformer": list(self.model.transformer.parameters()),
            "transcoder": list(self.model.transcoder.parameters()),
        }

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

    def configure_model(self) -> None:
        """Spread the weights over the devices, where the strategy wants that."""
        mesh = self.device_mesh
        if mesh is not None and not is_sharded(self.model):
            shard(self.model, mesh["data_parallel"])

    def on_fit_start(self) -> None:
        """Decide about compiling, now that the devices are known."""
        is_on = wants_compiling(self.compile_mode, self.device)
        self._loss = Compiled(self.model.loss, is_on=is_on)

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
            if self.deterministic_codes or not self.trainer.training:
                codes = self.autoencoder.quantize(bit_probs, deterministic=self.deterministic_codes)
            else:
                codes = (self._draw_uniform(bit_probs) < bit_probs).to(bit_probs.dtype)
        return grid_to_tokens(codes)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Loss of one batch."""
        size = len(batch.labels)
        place = self.place(size)
        config = self.model.config
        host, device = (place.generator(self.seed, where) for where in ("cpu", self.device))
        draws = draw_training(
            config,
            place.total,
            num_masked=draw_num_masked(config.seq_len, host),
            generator=device,
            device=self.device,
        ).rows(place.rows)
        return self._step(batch, "train", draws).loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same loss on held-out images, without dropout."""
        seed = step_seed(self.seed, -1 - batch_idx, self.global_rank)
        config, size = self.model.config, len(batch.labels)
        num_masked = draw_num_masked(config.seq_len, torch.Generator().manual_seed(seed))
        generator = torch.Generator(self.device).manual_seed(seed)
        draws = draw_training(
            config, size, num_masked=num_masked, generator=generator, device=self.device
        )
        self._step(batch, "val", draws)

    def _step(self, batch: Batch, split: str, draws: TrainingDraws) -> BiGRLoss:
        """Loss and bit accuracy, logged."""
        is_training = split == "train"
        codes = self.codes_of(batch)
        if is_training:
            is_short = not self._loss.is_on if self.masked_only == "auto" else self.masked_only
            loss = self._loss
        else:
            is_short, loss = True, self.model.loss  # type: ignore[assignment]
        # A compiled loss must not see a number that changes with every step.
        given = draws if is_short else draws._replace(num_masked=0)
        outcome: BiGRLoss = loss(codes, batch.labels, draws=given, masked_only=bool(is_short))
        if is_training:
            self.outcome, self.draws = outcome, draws
        figures = torch.stack([outcome.loss.detach(), outcome.bit_accuracy])
        if is_training:
            self._log_step(figures)
        else:
            self._log("val", figures, sync_dist=True, batch_size=len(batch.labels))
        return outcome

    def _log_step(self, figures: Tensor) -> None:
        """Means over the global batch of an optimiser step, after its last part."""
        trainer = self.trainer
        parts = trainer.accumulate_grad_batches
        self._figures = figures if self._figures is None else self._figures + figures
        if (batch_counter(self) + 1) % parts:
            return
        figures, self._figures = self._figures / parts, None
        if dist.is_initialized() and is_logged(trainer, self.global_step + 1):
            dist.all_reduce(figures)  # Lightning's own reduction would do it, and wait, every step
            figures = figures / trainer.world_size
        self._log("train", figures, on_step=True, on_epoch=False)

    def _log(self, split: str, figures: Tensor, **settings: Any) -> None:
        for name, value in zip(("loss", "bit_accuracy"), figures, strict=True):
            self.log(f"{split}/{name}", value, prog_bar=True, **settings)

    def _draw_uniform(self, like: Tensor) -> Tensor:
        """Uniform numbers for this process's images, of the global batch's."""
        place = self.place(len(like))
        generator = place.generator(mixed_seed("codes", self.seed), like.device)
        whole = torch.rand(place.total, *like.shape[1:], generator=generator, device=like.device)
        return whole[place.rows]

    def configure_optimizers(self) -> Any:
        """Optimiser, and schedule if there is one."""
        return self.with_schedule(self.optimizer_factory(self.model))
