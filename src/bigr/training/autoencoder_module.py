"""Training of the B-AE: L1, MSE, LPIPS, and optionally a discriminator."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.special import entr

from bigr.checkpoints.cached import CachedFileError
from bigr.checkpoints.hub import find_model
from bigr.checkpoints.load import load_autoencoder, load_discriminator
from bigr.evaluation.reconstruction import reconstruction_figures
from bigr.losses.perceptual import load_lpips
from bigr.metrics.bits import BitUsage
from bigr.metrics.feature_networks import load_network
from bigr.metrics.reconstruction_fid import ReconstructionFID
from bigr.models.autoencoder import AutoencoderOutput, BinaryAutoencoder
from bigr.models.config import BinaryAutoencoderConfig
from bigr.models.discriminator import PatchDiscriminator
from bigr.schema import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, checked
from bigr.training.base_module import (
    Frozen,
    SchedulerFactory,
    TrainingModule,
)
from bigr.training.data.batch import Batch
from bigr.training.data_checks import check_equal, check_kind
from bigr.training.gan import Adversary, GANConfig, OptimizerFactory
from bigr.training.initialization import select_trained, start_autoencoder, table

log = logging.getLogger(__name__)


class AutoencoderModule(TrainingModule):
    """Trains a :class:`~bigr.models.autoencoder.BinaryAutoencoder`.

    loss = ``l1_weight`` mean|x - y| + ``mse_weight`` mean (x - y)^2
    + ``perceptual_weight`` LPIPS(x, y) + w * (-mean D(y)) + ``code_weight`` mean z(1 - z),
    where z are the bit probabilities. Bits are drawn, and their gradient is straight-through.

    Without a discriminator Lightning runs the optimiser. With one, this module does: it clips each
    network's gradient and accumulates batches itself, see :meth:`configure_trainer`.

    Args:
        autoencoder: sizes of the B-AE.
        optimizer: called with the trainable parameters.
        l1_weight: weight of the absolute error.
        mse_weight: weight of the squared error.
        perceptual_weight: weight of LPIPS; with 0, VGG16 is not loaded.
        perceptual_file: weights of VGG16; None looks in torch's hub cache.
        rfid: measure the FID of reconstructions at validation.
        inception_file: weights of Inception for ``rfid``; None looks in torch's hub cache.
        code_weight: weight of the variance of the bits, which makes the encoder more certain.
        quantizer_gain: factor of the quantizer's initial weights. With a factor above 1 the first
            bits are not coin flips, and fewer of them become redundant.
        gan: the discriminator and its settings; None trains without.
        init_from: name or path of a B-AE to start from, including its discriminator, see
            :func:`bigr.checkpoints.hub.find_model`; if its ``code_dim`` differs, the quantizer
            keeps its initial weights.
        freeze: parameters of the B-AE that keep their values, see
            :func:`bigr.training.initialization.select_trained`.
        train: the only parameters of the B-AE that are trained; empty trains all.
        recompute_activations: recompute activations in the backward pass to save memory.
        channels_last: memory format of images and weights; faster on most GPUs, slower on CPUs.
        gradient_clip_val: maximum norm of each network's gradient, with a discriminator; None
            does not clip. :meth:`configure_trainer` takes the trainer's value.
        accumulate_grad_batches: batches per optimiser step, with a discriminator; also taken from
            the trainer.
        lr_scheduler: see :class:`TrainingModule`; the discriminator's rate changes in proportion.
        seed: see :class:`TrainingModule`.
        max_skipped_steps: see :class:`TrainingModule`; counted for each network.
    """

    learns = "images"

    @checked
    def __init__(
        self,
        autoencoder: BinaryAutoencoderConfig,
        optimizer: OptimizerFactory,
        *,
        l1_weight: NonNegativeFloat = 1.0,
        mse_weight: NonNegativeFloat = 0.0,
        perceptual_weight: NonNegativeFloat = 0.0,
        perceptual_file: str | None = None,
        rfid: bool = False,
        inception_file: str | None = None,
        code_weight: NonNegativeFloat = 0.0,
        quantizer_gain: NonNegativeFloat = 1.0,
        gan: GANConfig | None = None,
        init_from: str | None = None,
        freeze: tuple[str, ...] = (),
        train: tuple[str, ...] = (),
        recompute_activations: bool = False,
        channels_last: bool = False,
        gradient_clip_val: PositiveFloat | None = None,
        accumulate_grad_batches: PositiveInt = 1,
        lr_scheduler: SchedulerFactory | None = None,
        seed: NonNegativeInt = 0,
        max_skipped_steps: NonNegativeInt = 10,
    ) -> None:
        super().__init__("autoencoder", autoencoder, lr_scheduler, seed, max_skipped_steps)
        self.l1_weight = l1_weight
        self.mse_weight = mse_weight
        self.perceptual_weight = perceptual_weight
        self.code_weight = code_weight
        self.gradient_clip_val = gradient_clip_val
        self.accumulate_grad_batches = accumulate_grad_batches
        self.optimizer_factory = optimizer
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        # 1. The network of the perceptual loss.
        lpips = _load_lpips(perceptual_file) if perceptual_weight > 0 else None
        self._lpips: Frozen[nn.Module] = Frozen(lpips)
        # 2. The networks that are trained.
        self.autoencoder = BinaryAutoencoder(autoencoder)
        with torch.no_grad():
            self.autoencoder.quantizer.proj.weight.mul_(quantizer_gain)
        self.discriminator: PatchDiscriminator | None = None
        self.adversary: Adversary | None = None
        if gan is not None:
            self.discriminator = PatchDiscriminator(gan.discriminator)
            self.adversary = Adversary(gan, self.discriminator, max_skipped_steps)
        self.automatic_optimization = gan is None
        if init_from is not None:
            self._start_from(init_from)
        unused = [n for n, p in self.autoencoder.named_parameters() if not p.requires_grad]
        select_trained(self.autoencoder, freeze=freeze, train=train, never=unused)
        self.autoencoder.checkpoint_activations(recompute_activations)
        self.to(memory_format=self.memory_format)
        # 3. Metrics. Last, because building a network changes the initial weights of later ones.
        self._fid = ReconstructionFID(load_network("inception", inception_file)) if rfid else None
        self.bit_usage = Frozen(BitUsage(autoencoder.code_dim))

    def configure_trainer(self, settings: dict[str, Any], world_size: int) -> dict[str, Any]:
        """Take over clipping and accumulation from the trainer, if there is a discriminator.

        The two networks take part in different backward passes, so that DDP has to look for
        parameters without a gradient. A strategy object of another class is kept as it is.

        Raises:
            ValueError: for FSDP, or for float16 with a discriminator.
        """
        strategy = settings.get("strategy", "auto")
        if isinstance(strategy, ModelParallelStrategy):
            raise ValueError("strategy=fsdp is for the generator: use strategy=ddp for a B-AE.")
        if self.automatic_optimization:
            return settings
        if str(settings.get("precision")).startswith("16"):
            raise ValueError(
                f"trainer.precision={settings['precision']} doesn't work with two optimisers: use "
                "bf16-mixed or 32-true."
            )
        self.gradient_clip_val = settings.get("gradient_clip_val")
        self.accumulate_grad_batches = settings.get("accumulate_grad_batches", 1)
        is_ddp = isinstance(strategy, str | DDPStrategy)
        if is_ddp and (world_size > 1 or strategy != "auto"):
            strategy = DDPStrategy(find_unused_parameters=True)
        taken = {"gradient_clip_val": None, "accumulate_grad_batches": 1, "strategy": strategy}
        return {**settings, **taken}

    def check(self, data: Any) -> None:
        """Raise ``ValueError`` if the data module gives codes, or images of another size."""
        super().check(data)
        check_kind(self, data, ("images",), "choose another data=…")
        size = self.autoencoder.config.image_size
        check_equal(data, {"image_size": size}, {"image_size": f"choose resolution={size}"})

    def images_of(self, batch: Any) -> Tensor:
        """Return the images (B, 3, H, W) of a batch, see :meth:`Batch.of`.

        Raises:
            ValueError: if it has none.
        """
        images = Batch.of(batch).images
        if images is None:
            raise ValueError(
                "the data module provides codes, but a B-AE learns images: choose another data=…."
            )
        return images.contiguous(memory_format=self.memory_format)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch; with a discriminator, also run the optimisers."""
        images = self.images_of(batch)
        output = self.autoencoder(images)
        reconstruction_loss, parts = self._reconstruction_loss(output, images)
        bit_variance = (output.bit_probs * (1.0 - output.bit_probs)).mean()
        loss = reconstruction_loss + self.code_weight * bit_variance
        parts["bit_variance"] = bit_variance
        if self.adversary is not None:
            loss, values = self.adversary.step(
                self, images, output.reconstruction, reconstruction_loss, loss
            )
            parts.update(values)
        self._log("train", {"loss": loss, **parts}, len(images))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log errors of the clamped reconstruction, and the entropy of the bit probabilities."""
        images = self.images_of(batch)
        output = self.autoencoder(images)
        y = output.reconstruction.clamp(0, 1).float()
        probs = output.bit_probs.float()
        metrics = {
            **reconstruction_figures(images, y, self._lpips.on(self.device)),
            "mse": F.mse_loss(y, images),
            # Not F.binary_cross_entropy, which autocast refuses on a GPU.
            "bit_entropy": (entr(probs) + entr(1.0 - probs)).mean() / math.log(2.0),
        }
        if self._fid is not None:
            self._fid.update(images, y)
        usage = self.bit_usage.on(self.device)
        if usage is not None:
            usage.update(output.codes)
        self._log("val", metrics, len(images))

    def on_validation_epoch_end(self) -> None:
        """Log how the bits were used in the whole split, and the FID of its reconstructions."""
        if self._fid is not None:
            if not self.trainer.sanity_checking:
                self.log("val/rfid", self._fid.compute())
            self._fid.reset()
        usage = self.bit_usage.on(self.device)
        if usage is None:
            return
        figures = usage.compute()
        usage.reset()
        named = {
            "bits/dead": figures.dead.float(),
            "bits/usage_entropy": figures.entropy.mean(),
            "bits/usage_entropy_min": figures.entropy.min(),
            "bits/correlation": figures.correlation,
            "bits/correlation_max": figures.max_correlation,
        }
        self.log_dict({f"val/{name}": value.float() for name, value in named.items()})

    def configure_optimizers(self) -> Any:
        """Return the optimiser and its schedule; the discriminator's optimiser comes second."""
        trainable = [p for p in self.autoencoder.parameters() if p.requires_grad]
        own = self.with_schedule(self.optimizer_factory(trainable))
        if self.adversary is None:
            return own
        other = self.adversary.config.optimizer(self.adversary.network.parameters())
        first = own if isinstance(own, dict) else {"optimizer": own}
        return first, {"optimizer": other}

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of the encoder, the quantizer and the decoder."""
        names = ("encoder", "quantizer", "decoder")
        return {name: list(getattr(self.autoencoder, name).parameters()) for name in names}

    def _reconstruction_loss(
        self, output: AutoencoderOutput, images: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        y = output.reconstruction
        parts = {"l1": F.l1_loss(y, images), "mse": F.mse_loss(y, images)}
        loss = self.l1_weight * parts["l1"] + self.mse_weight * parts["mse"]
        lpips = self._lpips.on(self.device)
        if lpips is not None:
            parts["lpips"] = lpips(y, images, normalize=True).mean()
            loss = loss + self.perceptual_weight * parts["lpips"]
        return loss, parts

    def _start_from(self, name: str) -> None:
        path = find_model(name, "autoencoder")
        origins = start_autoencoder(self.autoencoder, load_autoencoder(path), name)
        sizes = {name: value.numel() for name, value in self.autoencoder.named_parameters()}
        log.info("start from %s:", name)
        for line in table(origins, sizes):
            log.info("  %s", line)
        if self.discriminator is None:
            return
        found = load_discriminator(path)
        if found is None:
            log.info("%s has no discriminator: a new one is used", path)
        elif found.state_dict().keys() == self.discriminator.state_dict().keys():
            self.discriminator.load_state_dict(found.state_dict())
        else:
            log.info("%s has a discriminator of other sizes: a new one is used", path)

    def _log(self, split: str, metrics: dict[str, Any], count: int) -> None:
        for name, value in metrics.items():
            key = f"{split}/{name}"
            self.log(
                key,
                value.detach(),
                prog_bar=key == "val/psnr",
                sync_dist=split == "val",
                batch_size=count,
            )


def _load_lpips(perceptual_file: str | None) -> nn.Module:
    try:
        return load_lpips(perceptual_file)
    except CachedFileError as error:
        hint = "The key is task.perceptual_file; task.perceptual_weight=0 trains without LPIPS."
        raise CachedFileError(f"{error} {hint}") from error
