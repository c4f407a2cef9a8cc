"""Training of the B-AE: L1, MSE, LPIPS, and a discriminator if there is one."""

from __future__ import annotations

import logging
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from bigr.checkpoints.cached import CachedFileError
from bigr.checkpoints.load import load_discriminator
from bigr.checkpoints.transfer import load_for_finetuning
from bigr.losses.perceptual import load_lpips
from bigr.metrics.bits import BitUsage
from bigr.metrics.feature_networks import load_network
from bigr.metrics.reconstruction_fid import ReconstructionFID
from bigr.models.autoencoder import AutoencoderOutput, BinaryAutoencoder
from bigr.models.config import BinaryAutoencoderConfig, check_range
from bigr.models.discriminator import PatchDiscriminator
from bigr.training.base_module import Frozen, SchedulerFactory, TrainingModule
from bigr.training.data.batch import Batch
from bigr.training.gan import Adversary, GANConfig, OptimizerFactory
from bigr.training.gradient_guard import GradientGuard

log = logging.getLogger(__name__)

WEIGHTS = ("l1_weight", "mse_weight", "perceptual_weight", "code_weight")
SSIM_WINDOW = 11


class AutoencoderModule(TrainingModule):
    """Steps and optimisers of a :class:`~bigr.models.autoencoder.BinaryAutoencoder`.

    loss = ``l1_weight`` mean|x - y| + ``mse_weight`` mean (x - y)^2
    + ``perceptual_weight`` LPIPS(x, y) + w * (-mean D(y)) + ``code_weight`` mean z(1 - z), with z
    the bit probabilities; bits are drawn, the gradient is straight-through.

    Args:
        autoencoder: sizes of the B-AE.
        optimizer: builds the optimiser from the trainable parameters.
        l1_weight: of the absolute error.
        mse_weight: of the squared error.
        perceptual_weight: of LPIPS; 0 goes without VGG16.
        perceptual_file: VGG16's weights; None is torch's hub cache.
        rfid: whether validation measures the FID of reconstructions.
        inception_file: Inception's weights for that; None is torch's hub cache.
        code_weight: of the bits' variance; above 0, it makes the encoder sure of its bits.
        quantizer_gain: factor of the quantizer's initial weights. Above 1 the first bits are no
            coin flips, and fewer of them learn to repeat each other.
        gan: the discriminator and its settings; None trains without.
        init_from: a checkpoint to start from, released or own, discriminator included; with other
            ``code_dim`` the quantizer starts anew.
        recompute_activations: keep less in memory and compute it again in the backward pass.
        channels_last: memory format of images and weights; faster on most GPUs, slower on CPUs.
        lr_scheduler: see :class:`TrainingModule`; the discriminator's rate follows.
        seed: see :class:`TrainingModule`.
        max_skipped_steps: see :class:`TrainingModule`; for each network.
    """

    def __init__(
        self,
        autoencoder: BinaryAutoencoderConfig,
        optimizer: OptimizerFactory,
        *,
        l1_weight: float = 1.0,
        mse_weight: float = 0.0,
        perceptual_weight: float = 0.0,
        perceptual_file: str | None = None,
        rfid: bool = False,
        inception_file: str | None = None,
        code_weight: float = 0.0,
        quantizer_gain: float = 1.0,
        gan: GANConfig | None = None,
        init_from: str | None = None,
        recompute_activations: bool = False,
        channels_last: bool = False,
        lr_scheduler: SchedulerFactory | None = None,
        seed: int = 0,
        max_skipped_steps: int = 10,
    ) -> None:
        super().__init__("autoencoder", autoencoder, lr_scheduler, seed, max_skipped_steps)
        self.critic_guard = GradientGuard(max_skipped_steps)
        self.l1_weight = l1_weight
        self.mse_weight = mse_weight
        self.perceptual_weight = perceptual_weight
        self.code_weight = code_weight
        self.quantizer_gain = quantizer_gain
        for name in (*WEIGHTS, "quantizer_gain"):
            check_range(self, name, 0.0)
        self._lpips: Frozen[nn.Module] = Frozen(None)
        if perceptual_weight > 0:
            try:
                self._lpips = Frozen(load_lpips(perceptual_file))
            except CachedFileError as error:
                raise CachedFileError(
                    f"{error} The key is task.perceptual_file; task.perceptual_weight=0 trains "
                    "without LPIPS."
                ) from error
        self.optimizer_factory = optimizer
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.autoencoder = BinaryAutoencoder(autoencoder)
        with torch.no_grad():
            self.autoencoder.quantizer.proj.weight.mul_(quantizer_gain)
        self.discriminator: PatchDiscriminator | None = None
        self.adversary: Adversary | None = None
        if gan is not None:
            self.discriminator = PatchDiscriminator(gan.discriminator)
            self.adversary = Adversary(gan, self.discriminator)
        if init_from is not None:
            self._start_from(init_from)
        self.autoencoder.checkpoint_activations(recompute_activations)
        self.to(memory_format=self.memory_format)
        self.automatic_optimization = gan is None
        self.gradient_clip_val: float | None = None
        """Largest norm of each network's gradient; ours to apply where there is a discriminator."""
        self.accumulate_grad_batches = 1
        """Batches per optimiser step; ours to count where there is a discriminator."""
        self._fid = ReconstructionFID(load_network("inception", inception_file)) if rfid else None
        self.bit_usage = Frozen(BitUsage(autoencoder.code_dim))

    def images_of(self, batch: Batch) -> Tensor:
        """The batch's images.

        Raises:
            ValueError: if it has none.
        """
        if batch.images is None:
            raise ValueError(
                "This data gives codes, and the B-AE learns images: choose other data."
            )
        return batch.images.contiguous(memory_format=self.memory_format)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """One batch; with a discriminator also the optimisers' steps."""
        images = self.images_of(batch)
        output = self.autoencoder(images)
        reconstruction_loss, parts = self._reconstruction_loss(output, images)
        bit_variance = (output.bit_probs * (1.0 - output.bit_probs)).mean()
        loss = reconstruction_loss + self.code_weight * bit_variance
        parts["bit_variance"] = bit_variance
        if self.adversary is not None:
            loss = self._adversarial_steps(images, output, reconstruction_loss, loss, parts)
        self._log("train", {"loss": loss, **parts}, len(images))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """Errors of the clamped reconstruction, and how far the bits are from coin flips."""
        images = self.images_of(batch)
        output = self.autoencoder(images)
        y = output.reconstruction.clamp(0, 1).float()
        probs = output.bit_probs.float()
        metrics = {
            "l1": F.l1_loss(y, images),
            "mse": F.mse_loss(y, images),
            "psnr": peak_signal_noise_ratio(
                y, images, data_range=1.0, reduction="elementwise_mean", dim=(1, 2, 3)
            ),
            "bit_entropy": F.binary_cross_entropy(probs, probs) / torch.log(probs.new_tensor(2)),
        }
        if min(images.shape[-2:]) >= SSIM_WINDOW:
            metrics["ssim"] = structural_similarity_index_measure(y, images, data_range=1.0)  # type: ignore[assignment]
        lpips = self._lpips.on(self.device)
        if lpips is not None:
            metrics["lpips"] = lpips(y, images, normalize=True).mean()
        if self._fid is not None:
            self._fid.update(images, y)
        usage = self.bit_usage.on(self.device)
        if usage is not None:
            usage.update(output.codes)
        self._log("val", metrics, len(images))

    def on_validation_epoch_end(self) -> None:
        """How the bits were used over the whole split, and the FID of its reconstructions."""
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
        """Optimiser and schedule; the discriminator's optimiser comes second."""
        trainable = [p for p in self.autoencoder.parameters() if p.requires_grad]
        own = self.with_schedule(self.optimizer_factory(trainable))
        if self.adversary is None:
            return own
        other = self.adversary.config.optimizer(self.adversary.network.parameters())
        first = own if isinstance(own, dict) else {"optimizer": own}
        return first, {"optimizer": other}

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Encoder, quantizer and decoder."""
        network = self.autoencoder
        return {
            "encoder": list(network.encoder.parameters()),
            "quantizer": list(network.quantizer.parameters()),
            "decoder": list(network.decoder.parameters()),
        }

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

    def _adversarial_steps(
        self,
        images: Tensor,
        output: AutoencoderOutput,
        reconstruction_loss: Tensor,
        loss: Tensor,
        parts: dict[str, Tensor],
    ) -> Tensor:
        """The B-AE's step, then the discriminator's; both only at the end of an accumulation."""
        adversary, share = self.adversary, 1.0 / self.accumulate_grad_batches
        if adversary is None:
            raise RuntimeError("there is no discriminator")
        optimizers: Any = self.optimizers()
        optimizer, other = optimizers
        is_adversarial = self.global_step >= adversary.config.start_step
        is_step = self._is_step()
        if is_adversarial:
            term = adversary.term(
                output.reconstruction, reconstruction_loss, self.autoencoder.last_weight
            )
            loss = loss + term.loss
            parts["gan_loss"], parts["gan_weight"] = term.gan_loss, term.adaptive_weight
        self.manual_backward(loss * share)
        if is_step:
            self.guarded(self.guard, optimizer, self.parts(), self.gradient_clip_val)
        if is_adversarial:
            d_loss, real, fake = adversary.loss(images, output.reconstruction)
            parts.update(discriminator_loss=d_loss, logits_real=real, logits_fake=fake)
            self.manual_backward(d_loss * share)
            if is_step:
                critic = {"discriminator": list(adversary.network.parameters())}
                self.guarded(self.critic_guard, other, critic, self.gradient_clip_val)
        if not is_step:
            return loss
        if is_adversarial:
            self._follow_rate(optimizer, other)
            # Not Lightning's step: it would count as a step of the run.
            other.optimizer.step()
            other.zero_grad()
        optimizer.step()
        optimizer.zero_grad()
        scheduler: Any = self.lr_schedulers()
        if scheduler is not None:
            scheduler.step()
        return loss

    def _is_step(self) -> bool:
        done = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return done % self.accumulate_grad_batches == 0 or self.trainer.is_last_batch

    def _follow_rate(self, optimizer: Any, other: Any) -> None:
        """The schedule is the B-AE's; the discriminator's rate changes by the same factor."""
        group = optimizer.param_groups[0]
        factor = group["lr"] / group.get("initial_lr", group["lr"])
        for group in other.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor

    def _start_from(self, path: str) -> None:
        for line in load_for_finetuning(self.autoencoder, path):
            log.info("%s", line)
        if self.discriminator is None:
            return
        found = load_discriminator(path)
        if found is None:
            log.info("%s has no discriminator: it starts anew", path)
        elif found.state_dict().keys() == self.discriminator.state_dict().keys():
            self.discriminator.load_state_dict(found.state_dict())
        else:
            log.info("%s has a discriminator of other sizes: it starts anew", path)

    def _log(self, split: str, metrics: dict[str, Any], count: int) -> None:
        shown = ("train/loss", "val/psnr")
        for name, value in metrics.items():
            key = f"{split}/{name}"
            self.log(
                key,
                value.detach(),
                prog_bar=key in shown,
                sync_dist=split == "val",
                batch_size=count,
            )
