"""Training of the generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn

from bigr.checkpoints.identity import weights_sha256
from bigr.checkpoints.load import check_pair, load_autoencoder
from bigr.checkpoints.lora import LORA_SCALE, LoRAConfig
from bigr.checkpoints.native import SETTINGS
from bigr.data.seeds import mixed_seed
from bigr.inference.model_defaults import saved_sampler
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR, BiGRLoss
from bigr.models.codes import grid_to_tokens
from bigr.models.config import BiGRConfig
from bigr.models.model_settings import UNKNOWN
from bigr.models.training_draws import TrainingDraws, draw_num_masked, draw_training
from bigr.sampling.sampler_config import SamplerConfig
from bigr.schema import Fraction, NonNegativeInt, PositiveInt, checked
from bigr.training.base_module import (
    Frozen,
    SchedulerFactory,
    TrainingModule,
    batch_place,
    is_logged,
    is_shown,
    step_seed,
)
from bigr.training.compiling import Compiled, CompileMode, wants_compiling
from bigr.training.data.batch import Batch
from bigr.training.data_checks import check_equal, check_kind
from bigr.training.fine_tuning import FineTuning
from bigr.training.initialization import AutoOrBool, ClassRows
from bigr.training.lightning_private import batch_counter
from bigr.training.sharding import is_sharded, shard

OptimizerFactory = Callable[[BiGR], torch.optim.Optimizer]
DEFAULT_LORA = LoRAConfig()
NEEDS_AUTOENCODER = (
    "set task.autoencoder to a B-AE that encodes them: a file, the folder of a run, or the name of "
    "an installed model such as digits"
)
"""What to change if the data contain images, but there is no B-AE."""


class GeneratorModule(TrainingModule):
    """Trains a :class:`~bigr.models.bigr.BiGR`.

    Args:
        model: sizes of the generator.
        optimizer: called with the generator.
        lr_scheduler: see :class:`TrainingModule`.
        autoencoder: checkpoint of the B-AE that encodes images during training. It is frozen, and
            not part of this module's checkpoints. Data that consists of codes does not need it.
        deterministic_codes: use the bits [p > 0.5] instead of drawing them.
        compile: ``auto`` compiles on GPUs.
        recompute_activations: recompute each transformer layer in the backward pass, which saves
            memory and takes a third more time.
        masked_only: run the transcoder on masked tokens only, with the same loss; ``auto`` does so
            unless the loss is compiled, which requires constant shapes.
        levels_per_token: noise levels at which each masked token is trained in a step. The paper
            uses 1. More of them make the gradient less noisy, for the price of a pass of the small
            transcoder each (MAR, arXiv 2406.11838, uses 4); the expected loss is the same.
        flip_rate: highest share of the known bits that the transformer sees flipped, while it still
            learns the clean ones. The share is drawn for each image. This teaches the transformer
            to doubt decided tokens, as a corrector does. Validation flips no bits.
        sampler: settings with which to sample the generator; they are saved with its weights.
        init_from: name or path of a trained generator to start from; for this and the following
            five arguments, see :class:`~bigr.training.fine_tuning.FineTuning`.
        class_rows: which rows of its class table are copied.
        reset_code_layers: whether the layers that see single bits are new.
        freeze: parameters that keep their values.
        train: the only parameters that are trained; empty trains all.
        lora: trains an adapter instead of the weights, if it has a rank.
        seed: see :class:`TrainingModule`.
        max_skipped_steps: see :class:`TrainingModule`.
    """

    learns = "codes"
    shown_metrics = ("train/loss", "train/bit_accuracy")

    @checked
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
        levels_per_token: PositiveInt = 1,
        flip_rate: Fraction = 0.0,
        sampler: SamplerConfig | None = None,
        init_from: str | None = None,
        class_rows: ClassRows = "auto",
        reset_code_layers: AutoOrBool = "auto",
        freeze: tuple[str, ...] = (),
        train: tuple[str, ...] = (),
        lora: LoRAConfig = DEFAULT_LORA,
        seed: NonNegativeInt = 0,
        max_skipped_steps: NonNegativeInt = 10,
    ) -> None:
        super().__init__("generator", model, lr_scheduler, seed, max_skipped_steps)
        self.model = BiGR(model)
        self.model.transformer.recomputes = recompute_activations
        self.fine_tuning = FineTuning(
            self.model,
            init_from=init_from,
            class_rows=class_rows,
            reset_code_layers=reset_code_layers,
            freeze=freeze,
            train=train,
            lora=lora,
        )
        self.optimizer_factory = optimizer
        self.deterministic_codes = deterministic_codes
        self.compile_mode = compile
        self.masked_only = masked_only
        if levels_per_token > 1 and not model.uses_diffusion:
            raise ValueError(
                f"task.levels_per_token must be 1 with model.objective={model.objective}, which "
                "has no noise levels."
            )
        self.levels_per_token = levels_per_token
        self.flip_rate = flip_rate
        self.sampler = sampler
        self._frozen: Frozen[BinaryAutoencoder] = Frozen(
            None if autoencoder is None else load_autoencoder(autoencoder)
        )
        self._loss: Compiled = Compiled(self.model.loss, is_on=False)
        self.outcome: BiGRLoss | None = None
        """The loss of the last training step, for callbacks."""
        self.draws: TrainingDraws | None = None
        """The random draws of the last training step, for callbacks."""
        self._figures: Tensor | None = None

    @property
    def autoencoder(self) -> BinaryAutoencoder | None:
        """The frozen B-AE, on this module's device."""
        return self._frozen.on(self.device)

    @property
    def returned_layer(self) -> int | None:
        """The layer whose hidden states the loss of a training step also returns, or None."""
        return None

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of the transformer and of the transcoder."""
        return {
            "transformer": list(self.model.transformer.parameters()),
            "transcoder": list(self.model.transcoder.parameters()),
        }

    def sampled_model(self) -> BiGR:
        """Return the generator with its present weights, to which an adapter has been added."""
        return self.fine_tuning.sampled_model()

    def configure_trainer(self, settings: dict[str, Any], world_size: int) -> dict[str, Any]:
        """Return the settings, see :class:`TrainingModule`.

        Raises:
            ValueError: if an adapter is to be sharded.
        """
        has_adapter = self.fine_tuning.lora is not None
        if has_adapter and isinstance(settings.get("strategy"), ModelParallelStrategy):
            raise ValueError("strategy=fsdp does not work with task.lora.rank: use strategy=ddp.")
        return super().configure_trainer(settings, world_size)

    def setup(self, stage: str) -> None:
        """Start from the trained generator, now that the class names of the data are known."""
        if stage == "fit":
            self._start(getattr(self.trainer, "datamodule", None))

    def _start(self, data: Any) -> None:
        """Copy the weights of the trained generator, if there is one."""
        if self.fine_tuning.pretrained is not None:
            known = self._known(data)
            self.fine_tuning.start(known.get("class_names"), known.get("autoencoder_sha256"))

    def check(self, data: Any) -> None:
        """Raise ``ValueError`` if the data does not fit the generator, or the B-AE does not."""
        self._start(data)
        super().check(data)
        config, autoencoder = self.model.config, self._frozen.module
        accepted = ("codes",) if autoencoder is None else ("codes", "images")
        check_kind(self, data, accepted, NEEDS_AUTOENCODER)
        sizes = {name: getattr(config, name) for name in ("num_classes", "code_dim", "grid_size")}
        fixes = {
            "num_classes": "leave out model.num_classes, or give the model that of the data",
            "code_dim": "choose another autoencoder=…, or other codes",
            "grid_size": "choose another resolution=…, or other codes",
        }
        check_equal(data, sizes, fixes)
        if autoencoder is None:
            return
        check_pair(self.model, autoencoder)
        size = autoencoder.config.image_size
        check_equal(data, {"image_size": size}, {"image_size": f"choose resolution={size}"})
        made_by = getattr(data, "tokenizer_sha256", None)
        if made_by is not None and made_by != weights_sha256(autoencoder):
            raise ValueError(
                "task.autoencoder isn't the B-AE that made these codes (its weights differ), so "
                "pictures would be wrong: give the right one, or task.autoencoder=null."
            )

    def configure_model(self) -> None:
        """Shard the weights, if the strategy asks for it."""
        mesh = self.device_mesh
        if mesh is not None and not is_sharded(self.model):
            shard(self.model, mesh["data_parallel"])

    def on_fit_start(self) -> None:
        """Decide about compiling, now that the device is known, and collect what to save."""
        is_on = wants_compiling(self.compile_mode, self.device)
        self._loss = Compiled(self.model.loss, is_on=is_on)
        known = self._known(getattr(self.trainer, "datamodule", None))
        self.model.settings = dataclasses.replace(self.model.settings, **known)
        self.fine_tuning.release()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also store the settings that are saved with the weights."""
        super().on_save_checkpoint(checkpoint)
        if self.model.settings != UNKNOWN:
            checkpoint["bigr"][SETTINGS] = self.model.settings.to_json()
        if self.fine_tuning.lora is not None:
            checkpoint["bigr"][LORA_SCALE] = self.fine_tuning.lora.scale

    def _known(self, data: Any) -> dict[str, Any]:
        """Return the settings of the generator that follow from the data, B-AE and sampler."""
        known: dict[str, Any] = {}
        names = getattr(data, "classes", None)
        if isinstance(names, list | tuple) and len(names) == self.model.config.num_classes:
            known["class_names"] = tuple(map(str, names))
        autoencoder = self._frozen.module
        if autoencoder is not None:
            known["autoencoder_sha256"] = weights_sha256(autoencoder)
            known["image_size"] = autoencoder.config.image_size
        elif getattr(data, "tokenizer_sha256", None) is not None:
            known["autoencoder_sha256"] = data.tokenizer_sha256
            known["image_size"] = data.image_size
        if self.sampler is not None:
            known["sampler"] = saved_sampler(self.sampler)
        return known

    def codes_of(self, batch: Any) -> Tensor:
        """Return the codes (B, N, K) of a batch; images are encoded, and their bits drawn.

        Raises:
            ValueError: if the batch has images and there is no B-AE.
        """
        batch = Batch.of(batch)
        if batch.codes is not None:
            return batch.codes
        if self.autoencoder is None or batch.images is None:
            raise ValueError(
                f"the data contain images, but a generator learns codes: {NEEDS_AUTOENCODER}."
            )
        with torch.no_grad():
            bit_probs = self.autoencoder.encode(batch.images)
            if self.deterministic_codes or not self.trainer.training:
                codes = self.autoencoder.quantize(bit_probs, deterministic=self.deterministic_codes)
            else:
                codes = (self._draw_uniform(bit_probs) < bit_probs).to(bit_probs.dtype)
        return grid_to_tokens(codes)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        batch = Batch.of(batch)
        place = batch_place(self.trainer, len(batch.labels))
        config = self.model.config
        host, device = (place.generator(self.seed, where) for where in ("cpu", self.device))
        draws = draw_training(
            config,
            place.total,
            num_masked=draw_num_masked(config, host),
            num_levels=self.levels_per_token,
            flip_rate=self.flip_rate,
            generator=device,
            device=self.device,
        ).rows(place.rows)
        is_short = not self._loss.is_on if self.masked_only == "auto" else self.masked_only
        # A compiled loss must not receive a number that changes with every step.
        given = draws if is_short else draws._replace(num_masked=0)
        codes = self.codes_of(batch)
        outcome: BiGRLoss = self._loss(
            codes,
            batch.labels,
            draws=given,
            masked_only=bool(is_short),
            returned_layer=self.returned_layer,
        )
        self.outcome, self.draws = outcome, draws
        self._log_step(torch.stack([outcome.loss.detach(), outcome.bit_accuracy]))
        return outcome.loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the same loss of held-out images, without dropout and with the same draws."""
        batch = Batch.of(batch)
        seed = step_seed(self.seed, -1 - batch_idx, self.global_rank)
        config, size = self.model.config, len(batch.labels)
        num_masked = draw_num_masked(config, torch.Generator().manual_seed(seed))
        generator = torch.Generator(self.device).manual_seed(seed)
        draws = draw_training(
            config, size, num_masked=num_masked, generator=generator, device=self.device
        )
        outcome = self.model.loss(self.codes_of(batch), batch.labels, draws=draws, masked_only=True)
        figures = torch.stack([outcome.loss, outcome.bit_accuracy])
        self._log("val", figures, sync_dist=True, batch_size=size)

    def _log_step(self, figures: Tensor) -> None:
        """Log the means over the global batch of an optimiser step, after its last batch."""
        trainer = self.trainer
        parts = trainer.accumulate_grad_batches
        self._figures = figures if self._figures is None else self._figures + figures
        if (batch_counter(self) + 1) % parts:
            return
        figures, self._figures = self._figures / parts, None
        if not is_shown(trainer, self.global_step + 1):
            return
        if dist.is_initialized() and is_logged(trainer, self.global_step + 1):
            # Lightning's own reduction would run, and wait for the device, at every step.
            dist.all_reduce(figures)
            figures = figures / trainer.world_size
        self._log("train", figures, on_step=True, on_epoch=False)

    def _log(self, split: str, figures: Tensor, **settings: Any) -> None:
        for name, value in zip(("loss", "bit_accuracy"), figures, strict=True):
            self.log(f"{split}/{name}", value, prog_bar=split == "val", **settings)

    def _draw_uniform(self, like: Tensor) -> Tensor:
        """Return uniform numbers of the shape of ``like`` for this process's images."""
        place = batch_place(self.trainer, len(like))
        generator = place.generator(mixed_seed("codes", self.seed), like.device)
        whole = torch.rand(place.total, *like.shape[1:], generator=generator, device=like.device)
        return whole[place.rows]

    def configure_optimizers(self) -> Any:
        """Return the optimiser, and its schedule if there is one."""
        return self.with_schedule(self.optimizer_factory(self.model))
