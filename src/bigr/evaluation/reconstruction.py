"""How well a B-AE reconstructs images: errors, perceptual distance, and the use of its bits."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from bigr.checkpoints.cached import CachedFileError
from bigr.data.image_arrays import to_float, to_uint8
from bigr.evaluation.evaluator import EvaluationContext, OnBatch
from bigr.evaluation.report import Report
from bigr.evaluation.sample_archive import write_samples
from bigr.losses.perceptual import load_lpips
from bigr.metrics.bits import BitUsage
from bigr.metrics.feature_networks import load_network
from bigr.metrics.reconstruction_fid import ReconstructionFID
from bigr.schema import NonNegativeInt, PositiveInt, check_fields

log = logging.getLogger(__name__)

Network = TypeVar("Network")
COLUMNS = 8
ROWS = 4
SSIM_WINDOW = 11
IMAGE_DIMS = (1, 2, 3)
ARCHIVE = "reconstructions.npz"
RFID_NOTE = (
    "The FID of the reconstructions compares held-out images with their own reconstructions. The "
    "FID of generated images has another reference and number of images, and may be lower."
)


@dataclass(kw_only=True)
class ReconstructionEvaluation:
    """Measure the reconstructions of held-out images.

    Args:
        batch_size: images at a time.
        count: images from the start of the validation split; None takes all.
        deterministic: use the most likely bits instead of drawn ones.
        seed: seed of the drawn bits.
        perceptual_file: VGG16's weights for LPIPS; None looks in torch's hub cache, and omits
            LPIPS if they are not there.
        inception_file: Inception's weights for the FID of the reconstructions; None as above.
        save_images: write ``reconstructions.npz``, which ``samples=`` accepts, to score the
            reconstructions like generated images. All of them are kept in memory.

    Raises:
        CachedFileError: if a file that was given is missing or damaged.
    """

    is_shared = False
    batch_size: PositiveInt = 32
    count: PositiveInt | None = None
    deterministic: bool = False
    seed: NonNegativeInt = 0
    perceptual_file: str | None = None
    inception_file: str | None = None
    save_images: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        self.missing: list[str] = []
        """Why LPIPS or the FID is omitted."""
        self.lpips = self._optional(load_lpips, self.perceptual_file)
        load = functools.partial(load_network, "inception")
        network = self._optional(load, self.inception_file)
        self.fid = None if network is None else ReconstructionFID(network)

    def _optional(self, load: Callable[[str | None], Network], given: str | None) -> Network | None:
        try:
            return load(given)
        except CachedFileError as error:
            if given is not None:
                raise
            self.missing.append(str(error).split(", or ")[0])  # the shortest way to get it
            return None

    def check(self, context: EvaluationContext) -> None:
        """Raise ``ValueError`` if there are no images of the size of the B-AE."""
        self.num_images(context)
        for reason in self.missing:
            log.info("omitted: %s", reason)

    def num_images(self, context: EvaluationContext) -> int:
        """Return the number of images that are reconstructed."""
        return len(range(len(context.held_out))[: self.count])

    @torch.inference_mode()
    def __call__(self, context: EvaluationContext, on_batch: OnBatch = lambda _: None) -> Report:
        """Reconstruct the images of the validation split, and compare them with the originals."""
        autoencoder, images, total = context.codec, context.held_out, self.num_images(context)
        device = context.device
        usage = BitUsage(autoencoder.config.code_dim).to(device)
        means: dict[str, MeanMetric] = {}
        shown: list[tuple[Tensor, Tensor]] = []
        kept: list[Tensor] = []
        generator = torch.Generator(device).manual_seed(self.seed)
        for start in range(0, total, self.batch_size):
            chosen = range(start, min(start + self.batch_size, total))
            x = to_float(torch.stack([images[i].image for i in chosen])).to(device)
            output = autoencoder(x, deterministic=self.deterministic, generator=generator)
            y = output.reconstruction.clamp(0, 1)
            usage.update(output.codes)
            if self.fid is not None:
                self.fid.update(x, y)
            for name, value in reconstruction_figures(x, y, self.lpips).items():
                means.setdefault(name, MeanMetric().to(device)).update(value, len(x))
            if self.save_images:
                kept.append(to_uint8(y).cpu())
            if start < ROWS * COLUMNS:
                shown.append((x.cpu(), y.cpu()))
            on_batch(len(x))
        figures = {name: float(mean.compute()) for name, mean in means.items()}
        if self.fid is not None:
            figures["rfid"] = self.fid.compute()
            self.fid.reset()
        found = usage.compute()
        bits: dict[str, Any] = {
            "dead": int(found.dead),
            "usage_entropy": float(found.entropy.mean()),
            "usage_entropy_min": float(found.entropy.min()),
            "correlation": float(found.correlation),
            "correlation_max": float(found.max_correlation),
            "mean": [float(value) for value in found.mean],
        }
        report = Report(
            metrics={**figures, "bits": bits, "count": total},
            figures=figures,
            rows=_rows(figures, bits, total),
            columns=("held out",),
            notes=[RFID_NOTE] if "rfid" in figures else [],
            pictures={"reconstructions.png": _pairs(shown)},
            setting=(
                f"{total:,} held-out images of {x.shape[-1]}x{x.shape[-1]} pixels were "
                f"reconstructed by the B-AE of {context.title} from "
                f"{len(bits['mean'])} bits per token, the "
                f"{'most likely ones' if self.deterministic else f'drawn ones (seed {self.seed})'}."
            ),
            conditions={"number of images": total, "image size": x.shape[-1]},
            captions={
                "reconstructions.png": "Held-out images (odd rows) and their reconstructions "
                "(even rows)"
            },
        )
        if self.save_images:
            labels = torch.tensor([images[i].label for i in range(total)])
            report.files[ARCHIVE] = lambda path: write_samples(
                (part.numpy() for part in kept), labels, path
            )
            report.captions[ARCHIVE] = "all reconstructions and their classes"
        return report


def reconstruction_figures(x: Tensor, y: Tensor, lpips: nn.Module | None) -> dict[str, Tensor]:
    """Return the mean errors of a batch of reconstructions.

    Args:
        x: originals (B, 3, H, W) in [0, 1].
        y: their reconstructions.
        lpips: the network of the perceptual distance; None omits that.
    """
    figures: dict[str, Any] = {
        "l1": F.l1_loss(y, x),
        "psnr": peak_signal_noise_ratio(
            y, x, data_range=1.0, reduction="elementwise_mean", dim=IMAGE_DIMS
        ),
    }
    if min(x.shape[-2:]) >= SSIM_WINDOW:
        figures["ssim"] = structural_similarity_index_measure(y, x, data_range=1.0)
    if lpips is not None:
        figures["lpips"] = lpips.to(x.device)(x, y, normalize=True).mean()
    return figures


def _pairs(shown: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, int]:
    """Return rows of images, each above the row of their reconstructions."""
    x, y = (torch.cat(part)[: ROWS * COLUMNS] for part in zip(*shown, strict=True))
    columns = min(COLUMNS, len(x))
    whole = len(x) // columns * columns
    pairs = [part[:whole].unflatten(0, (-1, columns)) for part in (x, y)]
    return torch.stack(pairs, 1).flatten(0, 2), columns


def _rows(figures: dict[str, float], bits: dict[str, Any], total: int) -> list[tuple[str, ...]]:
    titles = {
        "l1": ("mean absolute error (0 to 1)", ".4f"),
        "psnr": ("PSNR (dB)", ".2f"),
        "ssim": ("SSIM", ".4f"),
        "lpips": ("LPIPS (VGG16)", ".4f"),
        "rfid": ("FID of the reconstructions", ".3f"),
    }
    return [
        ("images", f"{total}"),
        *((titles[name][0], format(value, titles[name][1])) for name, value in figures.items()),
        ("dead bits", f"{bits['dead']} of {len(bits['mean'])}"),
        ("entropy of bit usage, mean (bits)", f"{bits['usage_entropy']:.3f}"),
        ("entropy of bit usage, minimum (bits)", f"{bits['usage_entropy_min']:.3f}"),
        ("correlation of bits, mean", f"{bits['correlation']:.3f}"),
        ("correlation of bits, maximum", f"{bits['correlation_max']:.3f}"),
    ]
