"""Repainting over a dataset: whether known regions are kept, and how visible the seams are."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from bigr.data.digits import load_digits
from bigr.data.image_arrays import to_float, to_tensor, to_uint8
from bigr.data.image_dataset import ImageSet, MemoryImages
from bigr.data.user_pictures import require_opencv
from bigr.evaluation.evaluator import EvaluationContext, OnBatch
from bigr.evaluation.nearest import nearest_in_pixels
from bigr.evaluation.report import Report
from bigr.evaluation.report_text import sampler_text
from bigr.metrics.digit_classifier import DigitClassifier
from bigr.pipeline import BiGRPipeline
from bigr.sampling.conditioning import KnownBits, MaskRule, token_mask
from bigr.schema import NonNegativeInt, PositiveInt, check_fields

Application = Literal["inpaint", "outpaint", "edit"]
Region = Literal["center", "left", "right", "top", "bottom"]
ROWS = 8
"""Number of images in the picture."""
NUM_COMPARED = 64
"""Number of results that are compared with the training split for the picture ``nearest.png``."""
GREY = 0.5


def region_mask(region: Region, size: int) -> Tensor:
    """Return a (size, size) bool mask of half an image, or of its middle quarter."""
    mask = torch.zeros(size, size, dtype=torch.bool)
    half, quarter = size // 2, size // 4
    rows = {"top": slice(half), "bottom": slice(half, None), "center": slice(quarter, -quarter)}
    columns = {"left": slice(half), "right": slice(half, None), "center": slice(quarter, -quarter)}
    mask[rows.get(region, slice(None)), columns.get(region, slice(None))] = True
    return mask


def seam_contrast(images: Tensor, mask: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring pixels across the edge of ``mask``, (B,).

    Args:
        images: (B, 3, H, W).
        mask: (H, W) bool.
    """
    differences = []
    for dim in (0, 1):
        length = mask.shape[dim] - 1
        is_edge = mask.narrow(dim, 0, length) ^ mask.narrow(dim, 1, length)
        step = images.narrow(dim + 2, 0, length) - images.narrow(dim + 2, 1, length)
        differences.append(step.abs().mean(dim=1)[:, is_edge])
    return torch.cat(differences, dim=1).mean(dim=1)


@dataclasses.dataclass(kw_only=True)
class EditEvaluation:
    """Repaint a region of held-out images with :class:`bigr.BiGRPipeline`, and look at the rest.

    Args:
        application: ``inpaint`` the region, ``outpaint`` everything but the region, or ``edit``:
            repaint the region as a class.
        from_class: repaint images of this class only; None for all.
        to_class: class to paint with ``edit``; None for the image's own.
        classifier: ``digits`` measures the share of results that a classifier recognises as the
            requested class; None omits this score.
        region: the middle quarter, or a half.
        count: images from the start of the split.
        batch_size: images at a time.
        blend: how the pixels are put into the original; see :meth:`bigr.BiGRPipeline.inpaint`.
        mask_rule: see :func:`bigr.sampling.conditioning.token_mask`.
        known_bits: see :meth:`bigr.BiGRPipeline.inpaint`.
        seed: seed of the first image; image i uses ``seed + i``.
    """

    is_shared = False
    application: Application = "inpaint"
    from_class: NonNegativeInt | None = None
    to_class: NonNegativeInt | None = None
    classifier: Literal["digits"] | None = None
    region: Region = "center"
    count: PositiveInt = 1000
    batch_size: PositiveInt = 16
    blend: Literal["paste", "poisson"] = "paste"
    mask_rule: MaskRule = "any"
    known_bits: KnownBits = "drawn"
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.blend == "poisson":
            require_opencv()
        if self.to_class is not None and self.application != "edit":
            raise ValueError("evaluation.to_class needs evaluation.application=edit.")
        self._positions: list[int] = []

    def check(self, context: EvaluationContext) -> None:
        """Raise ``ValueError`` if the region has no token, or the generator lacks a class."""
        generator, _ = context.models
        token_mask(self._mask(context)[None], generator.config.grid_size, self.mask_rule)
        last = generator.config.num_classes - 1
        for name, value in (("from_class", self.from_class), ("to_class", self.to_class)):
            if value is not None and value > last:
                raise ValueError(f"evaluation.{name}={value}: it can be 0..{last}, or null.")
        self._chosen(context)

    def num_images(self, context: EvaluationContext) -> int:
        """Return the number of images that are repainted."""
        return len(self._chosen(context))

    def __call__(self, context: EvaluationContext, on_batch: OnBatch = lambda _: None) -> Report:
        """Repaint the images of the validation split, and compare the results with them."""
        mask, indices = self._mask(context), self._chosen(context)
        pipeline = context.pipeline(self.batch_size)
        reader = None
        if self.classifier is not None:
            reader = DigitClassifier(load_digits("train", pipeline.image_size))
        sums: dict[str, float] = {}
        shown: list[Tensor] = []
        squares: list[Tensor] = []
        for start in range(0, len(indices), self.batch_size):
            chosen = [context.held_out[i] for i in indices[start : start + self.batch_size]]
            sampled = self._repaint(context, pipeline, chosen, mask, self.seed + start)
            found = sampled.measure(mask)
            if reader is not None:
                hits = reader.accuracy(sampled.results, sampled.labels) * len(chosen)
                found["class_accuracy"] = torch.tensor(hits)
            for name, values in found.items():
                sums[name] = sums.get(name, 0.0) + float(values.double().sum())
            if len(shown) < ROWS:
                shown += list(sampled.rows(mask)[: ROWS - len(shown)])
            squares += list(to_uint8(sampled.squares))[: NUM_COMPARED - len(squares)]
            on_batch(len(chosen))
        means = {name: value / len(indices) for name, value in sums.items()}
        report = self._report(context, means, len(indices), shown)
        training = getattr(context.data, "train_set", None)
        if isinstance(training, (ImageSet, MemoryImages)):
            nearest = nearest_in_pixels(torch.stack(squares), training, "the training split")
            nearest.add_to(report, "the space of their pixels")
        return report

    def _repaint(
        self,
        context: EvaluationContext,
        pipeline: BiGRPipeline,
        chosen: Sequence[Any],
        mask: Tensor,
        seed: int,
    ) -> _Repainted:
        """Repaint a batch as the pipeline does for users."""
        originals = to_float(to_uint8(to_float(torch.stack([one.image for one in chosen]))))
        labels = [int(one.label) if self.to_class is None else self.to_class for one in chosen]
        variants = pipeline.repaint(
            list(originals),
            [mask] * len(chosen),
            labels if self.application == "edit" else [None] * len(chosen),
            blend=self.blend,
            mask_rule=self.mask_rule,
            known_bits=self.known_bits,
            seed=seed,
            sampler=context.sampler,
        )
        known = torch.stack([variant.known_codes for variant in variants])
        codes = torch.stack([variant.codes for variant in variants])
        is_masked = torch.stack([variant.is_masked for variant in variants]).to(codes.device)
        return _Repainted(
            originals,
            torch.tensor(labels),
            plain=to_float(to_uint8(pipeline.decode(known))).cpu(),
            squares=to_float(to_uint8(torch.stack([variant.square for variant in variants]))),
            results=torch.stack([to_tensor(variant.picture) for variant in variants]),
            is_intact=((codes == known).all(dim=-1) | is_masked).all(dim=1).cpu(),
        )

    def _report(
        self, context: EvaluationContext, means: dict[str, float], total: int, shown: list[Tensor]
    ) -> Report:
        figures = {
            "known_psnr_decoded": _psnr(means["known_mse_decoded"]),
            "known_psnr_reconstructed": _psnr(means["known_mse_reconstructed"]),
            "known_tokens_intact": means["intact"],
            "known_pixels_changed": means["changed"],
            "seam_ratio": means["seam"] / max(means["seam_original"], 1e-12),
        }
        rows: list[tuple[str, ...]] = [
            ("PSNR of the known region, decoded (dB)", f"{figures['known_psnr_decoded']:.2f}", ""),
            ("PSNR without an edit (dB)", f"{figures['known_psnr_reconstructed']:.2f}", ""),
            ("images with all known tokens intact", f"{means['intact']:.1%}", "100%"),
            (f"images with a known pixel changed ({self.blend})", f"{means['changed']:.1%}", "0%"),
            ("contrast across the seam / original", f"{figures['seam_ratio']:.3f}", "1"),
        ]
        if "class_accuracy" in means:
            figures["class_accuracy"] = means["class_accuracy"]
            rows.append(("recognised as their class", f"{means['class_accuracy']:.1%}", "100%"))
        sampler = context.sampler
        if self.application != "edit":  # as the pipeline does without classes
            sampler = dataclasses.replace(sampler, guidance_scale=1.0)
        names = ("application", "region", "from_class", "to_class", "blend", "known_bits", "seed")
        return Report(
            metrics={
                **figures,
                "count": total,
                **{name: getattr(self, name) for name in names},
                "sampler": sampler.to_dict(),
            },
            figures=figures,
            rows=rows,
            columns=("measured", "target"),
            pictures={"edits.png": (torch.cat(shown), 4)},
            setting=(
                f"The model {context.title} repainted {total:,} held-out images "
                f"({self.application}, region {self.region}, {self.blend}; "
                f"{sampler_text(sampler)}; seeds {self.seed} to {self.seed + total - 1})."
            ),
            conditions={
                "number of images": total,
                "image size": context.codec.config.image_size,
                **{name: getattr(self, name) for name in names if name != "seed"},
            },
            captions={
                "edits.png": "From left to right: the image, its known region, what was decoded, "
                "and the result"
            },
        )

    def _chosen(self, context: EvaluationContext) -> list[int]:
        """Return the positions of the images that are repainted."""
        if not self._positions:  # labels may only be known together with the decoded images
            images, label = context.held_out, self.from_class
            wanted = (i for i in range(len(images)) if label in (None, int(images[i].label)))
            self._positions = list(itertools.islice(wanted, self.count))
        if not self._positions:
            raise ValueError(f"evaluation.from_class={self.from_class}: no image is of this class.")
        return self._positions

    def _mask(self, context: EvaluationContext) -> Tensor:
        mask = region_mask(self.region, context.codec.config.image_size)
        return ~mask if self.application == "outpaint" else mask


@dataclasses.dataclass(frozen=True)
class _Repainted:
    """A batch of results; images are (B, 3, S, S) in [0, 1], rounded to uint8 as when saved."""

    originals: Tensor
    labels: Tensor
    """(B,) classes that were asked for."""
    plain: Tensor
    """The originals as the B-AE reconstructs them."""
    squares: Tensor
    """What was decoded."""
    results: Tensor
    """What was pasted into the originals."""
    is_intact: Tensor
    """(B,) bool: no known token changed."""

    def measure(self, mask: Tensor) -> dict[str, Tensor]:
        """Return the figures of every image, (B,) each."""
        known = ~mask
        return {
            "intact": self.is_intact,
            "changed": (self.results != self.originals)[..., known].any(dim=2).any(dim=1),
            "known_mse_decoded": _mse(self.squares, self.originals, known),
            "known_mse_reconstructed": _mse(self.plain, self.originals, known),
            "seam": seam_contrast(self.results, mask),
            "seam_original": seam_contrast(self.originals, mask),
        }

    def rows(self, mask: Tensor) -> Tensor:
        """Return original, masked original, decoded square and result of each image."""
        hidden = torch.where(mask, GREY, self.originals)
        return torch.stack([self.originals, hidden, self.squares, self.results], dim=1)


def _mse(images: Tensor, originals: Tensor, where: Tensor) -> Tensor:
    return (images - originals)[..., where].square().mean(dim=(1, 2))


def _psnr(mse: float) -> float:
    """Return the PSNR in dB of pixels in [0, 1], from the error pooled over all images."""
    return math.inf if mse == 0 else -10 * math.log10(mse)
