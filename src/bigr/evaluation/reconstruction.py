"""How well a B-AE reconstructs: errors, perceptual distance, use of its bits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from bigr.checkpoints.cached import CachedFileError
from bigr.data.image_arrays import to_float
from bigr.evaluation.report import Evaluation
from bigr.losses.perceptual import load_lpips
from bigr.metrics.bits import BitUsage
from bigr.metrics.feature_networks import load_network
from bigr.metrics.reconstruction_fid import ReconstructionFID
from bigr.models.autoencoder import BinaryAutoencoder

Network = TypeVar("Network")
COLUMNS = 8
ROWS = 4
SSIM_WINDOW = 11
IMAGE_DIMS = (1, 2, 3)


class Images(Protocol):
    """A data set of samples with an ``image``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class ReconstructionEvaluation:
    """Figures of a B-AE on held-out images.

    Args:
        batch_size: images at a time.
        count: images of the validation split, from its start; None takes all.
        deterministic: the likelier bit instead of a drawn one.
        seed: of the drawn bits.
        perceptual_file: VGG16's weights for LPIPS; None is torch's hub cache. Without the file
            there is no LPIPS.
        inception_file: the same for the FID of the reconstructions.

    Raises:
        ValueError: if ``count`` is below 1.
    """

    def __init__(
        self,
        *,
        batch_size: int = 32,
        count: int | None = None,
        deterministic: bool = False,
        seed: int = 0,
        perceptual_file: str | None = None,
        inception_file: str | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.count = count
        self.deterministic = deterministic
        self.seed = seed
        self.perceptual_file = perceptual_file
        self.missing: list[str] = []
        """Why there is no LPIPS or FID."""
        self.lpips = self._optional(load_lpips, perceptual_file)
        network = self._optional(functools.partial(load_network, "inception"), inception_file)
        self.fid = None if network is None else ReconstructionFID(network)

    def _optional(self, load: Callable[[str | None], Network], given: str | None) -> Network | None:
        try:
            return load(given)
        except CachedFileError as error:
            if given is not None:
                raise
            self.missing.append(str(error))
            return None

    @torch.inference_mode()
    def __call__(
        self,
        autoencoder: BinaryAutoencoder,
        images: Images,
        on_batch: Callable[[int], object] | None = None,
    ) -> Evaluation:
        """Figures and a picture of ``autoencoder`` on ``images``.

        Args:
            autoencoder: on the device to use.
            images: samples with an ``image`` (3, H, W), uint8 or float in [0, 1].
            on_batch: called with the number of images that were finished.
        """
        device = autoencoder.last_weight.device
        usage = BitUsage(autoencoder.config.code_dim).to(device)
        means: dict[str, MeanMetric] = {}
        shown: list[tuple[Tensor, Tensor]] = []
        total = len(images) if self.count is None else min(self.count, len(images))
        generator = torch.Generator(device).manual_seed(self.seed)
        for start in range(0, total, self.batch_size):
            chosen = range(start, min(start + self.batch_size, total))
            x = to_float(torch.stack([images[i].image for i in chosen])).to(device)
            output = autoencoder(x, deterministic=self.deterministic, generator=generator)
            y = output.reconstruction.clamp(0, 1)
            usage.update(output.codes)
            if self.fid is not None:
                self.fid.update(x, y)
            for name, value in self._figures(x, y).items():
                means.setdefault(name, MeanMetric().to(device)).update(value, len(x))
            if start < ROWS * COLUMNS:
                shown.append((x.cpu(), y.cpu()))
            if on_batch is not None:
                on_batch(len(x))
        metrics: dict[str, Any] = {name: float(mean.compute()) for name, mean in means.items()}
        if self.fid is not None:
            metrics["rfid"] = self.fid.compute()
            self.fid.reset()
        bits = usage.compute()
        metrics["bits"] = {
            "dead": int(bits.dead),
            "usage_entropy": float(bits.entropy.mean()),
            "usage_entropy_min": float(bits.entropy.min()),
            "correlation": float(bits.correlation),
            "correlation_max": float(bits.max_correlation),
            "mean": [float(value) for value in bits.mean],
        }
        metrics["count"] = total
        return Evaluation(
            metrics=metrics,
            figures={k: v for k, v in metrics.items() if k not in ("bits", "count")},
            rows=_rows(metrics, autoencoder.config.code_dim),
            pictures={"reconstructions.png": _pairs(shown)},
            columns=("held out",),
        )

    def _figures(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        figures: dict[str, Any] = {
            "l1": (x - y).abs().mean(),
            "psnr": peak_signal_noise_ratio(
                y, x, data_range=1.0, reduction="elementwise_mean", dim=IMAGE_DIMS
            ),
        }
        if min(x.shape[-2:]) >= SSIM_WINDOW:
            figures["ssim"] = structural_similarity_index_measure(y, x, data_range=1.0)
        if self.lpips is not None:
            figures["lpips"] = self.lpips.to(x.device)(x, y, normalize=True).mean()
        return figures


def _pairs(shown: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, int]:
    """Images in odd rows, their reconstructions below them."""
    x, y = (torch.cat(part)[: ROWS * COLUMNS] for part in zip(*shown, strict=True))
    columns = min(COLUMNS, len(x))
    whole = len(x) // columns * columns
    pairs = torch.stack(
        [x[:whole].unflatten(0, (-1, columns)), y[:whole].unflatten(0, (-1, columns))], 1
    )
    return pairs.flatten(0, 2), columns


def _rows(metrics: dict[str, Any], code_dim: int) -> list[tuple[str, ...]]:
    bits = metrics["bits"]
    rows = [
        ("images", f"{metrics['count']}"),
        ("mean absolute error", f"{metrics['l1']:.4f}"),
        ("PSNR (dB)", f"{metrics['psnr']:.2f}"),
    ]
    if "ssim" in metrics:
        rows.append(("SSIM", f"{metrics['ssim']:.4f}"))
    if "lpips" in metrics:
        rows.append(("LPIPS (VGG16)", f"{metrics['lpips']:.4f}"))
    if "rfid" in metrics:
        rows.append(("FID of the reconstructions", f"{metrics['rfid']:.3f}"))
    return [
        *rows,
        ("dead bits", f"{bits['dead']} of {code_dim}"),
        ("entropy of a bit's use, mean", f"{bits['usage_entropy']:.3f}"),
        ("the same, least used bit", f"{bits['usage_entropy_min']:.3f}"),
        ("correlation of two bits, mean", f"{bits['correlation']:.3f}"),
        ("the same, largest", f"{bits['correlation_max']:.3f}"),
    ]
