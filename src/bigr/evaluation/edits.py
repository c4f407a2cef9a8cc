"""Inpainting over a data set: what becomes of the known region, and how visible the seam is."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bigr.data.digits import load_digits
from bigr.data.image_arrays import to_float, to_tensor, to_uint8
from bigr.data.user_pictures import require_opencv, seamless
from bigr.evaluation.reconstruction import Images
from bigr.evaluation.report import Evaluation
from bigr.inference.generate import Models, decode, encode, generate
from bigr.metrics.digit_classifier import DigitClassifier
from bigr.sampling.conditioning import MaskRule, null_classes, token_mask
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig

Application = Literal["inpaint", "outpaint", "edit"]
Region = Literal["center", "left", "right", "top", "bottom"]
ROWS = 8
GREY = 0.5


def region_mask(region: Region, size: int) -> Tensor:
    """(size, size) bool: half of an image, or its middle quarter."""
    mask = torch.zeros(size, size, dtype=torch.bool)
    half, quarter = size // 2, size // 4
    rows = {"top": slice(half), "bottom": slice(half, None), "center": slice(quarter, -quarter)}
    columns = {"left": slice(half), "right": slice(half, None), "center": slice(quarter, -quarter)}
    mask[rows.get(region, slice(None)), columns.get(region, slice(None))] = True
    return mask


def seam_contrast(images: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels across the edge of ``mask``, (B,).

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


class EditEvaluation:
    """Repaint a region of held-out images and look at the rest.

    Args:
        application: ``inpaint``, ``outpaint`` (everything but the region), or ``edit``: as a class.
        from_class: repaint images of this class only; None for all.
        to_class: edit into this class; None for the image's own. Of ``edit``.
        classifier: ``digits`` for the share of results that are read as the class that was asked
            for, or as the image's own; None for no such figure.
        region: the middle quarter, or a half.
        count: images from the start of the split.
        batch_size: images at a time.
        blend: ``paste`` the repainted pixels into the original, or ``poisson``.
        mask_rule: see :func:`bigr.sampling.conditioning.token_mask`.
        seed: of the first image; image i uses ``seed + i``.

    Raises:
        ValueError: for impossible settings.
    """

    def __init__(
        self,
        *,
        application: Application = "inpaint",
        from_class: int | None = None,
        to_class: int | None = None,
        classifier: Literal["digits"] | None = None,
        region: Region = "center",
        count: int = 1000,
        batch_size: int = 16,
        blend: Literal["paste", "poisson"] = "paste",
        mask_rule: MaskRule = "any",
        seed: int = 0,
    ) -> None:
        for name, value, choices in (
            ("application", application, get_args(Application)),
            ("region", region, get_args(Region)),
            ("blend", blend, ("paste", "poisson")),
            ("mask_rule", mask_rule, get_args(MaskRule)),
        ):
            if value not in choices:
                raise ValueError(f"evaluation.{name}={value}: it can be {', '.join(choices)}.")
        if blend == "poisson":
            require_opencv()
        if classifier not in (None, "digits"):
            raise ValueError(f"evaluation.classifier={classifier}: it can be digits or null.")
        if to_class is not None and application != "edit":
            raise ValueError("evaluation.to_class needs evaluation.application=edit.")
        self.application = application
        self.from_class = from_class
        self.to_class = to_class
        self.classifier = classifier
        self.region = region
        self.count = count
        self.batch_size = batch_size
        self.blend = blend
        self.mask_rule = mask_rule
        self.seed = seed

    def check(self, models: Models) -> None:
        """Raise ``ValueError`` if the region has no token of ``models``."""
        token_mask(self._mask(models)[None], models.generator.config.grid_size, self.mask_rule)
        last = models.generator.config.num_classes - 1
        for name, value in (("from_class", self.from_class), ("to_class", self.to_class)):
            if value is not None and not (isinstance(value, int) and 0 <= value <= last):
                raise ValueError(f"evaluation.{name}={value}: it can be 0..{last}, or null.")

    def __call__(
        self,
        models: Models,
        sampler: SamplerConfig,
        on_batch: Callable[[int], object] = lambda _: None,
        *,
        images: Images,
        execution: ExecutionConfig = DEFAULT_EXECUTION,
    ) -> Evaluation:
        """Figures of ``models`` on ``images``, samples with ``image`` and ``label``."""
        mask = self._mask(models)
        chosen_images = self._chosen(images)
        total = len(chosen_images)
        reader = self._reader(models)
        if self.application != "edit":
            sampler = dataclasses.replace(sampler, guidance_scale=1.0)  # both halves are the same
        sums: dict[str, float] = {}
        kept_tokens = changed = 0
        read_right = 0.0
        shown: list[Tensor] = []
        for start in range(0, total, self.batch_size):
            chosen = [images[i] for i in chosen_images[start : start + self.batch_size]]
            originals = to_float(to_uint8(to_float(torch.stack([one.image for one in chosen]))))
            labels = torch.tensor([self._wanted(int(one.label)) for one in chosen])
            codes = encode(models.autoencoder, originals, self.batch_size)
            decoded, after = self._repaint(models, sampler, execution, codes, labels, mask, start)
            result = self._blended(originals, decoded, mask)
            plain = to_float(to_uint8(decode(models.autoencoder, codes, self.batch_size))).cpu()
            is_masked = token_mask(mask[None], models.generator.config.grid_size, self.mask_rule)
            same = (after == codes.cpu()).all(dim=-1)
            kept_tokens += int(same[:, ~is_masked[0]].all(dim=1).sum())
            changed += int((result != originals)[..., ~mask].any(dim=2).any(dim=1).sum())
            for name, error in (
                ("known_mse_decoded", (decoded - originals)[..., ~mask].square().mean(dim=(1, 2))),
                ("known_mse_reconstructed", (plain - originals)[..., ~mask].square().mean((1, 2))),
                ("seam", seam_contrast(result, mask)),
                ("seam_original", seam_contrast(originals, mask)),
            ):
                sums[name] = sums.get(name, 0.0) + float(error.double().sum())
            if reader is not None:
                read_right += reader.accuracy(result, labels) * len(chosen)
            if len(shown) < ROWS:
                hidden = torch.where(mask, GREY, originals)
                grid = torch.stack([originals, hidden, decoded, result], dim=1)
                shown += list(grid[: ROWS - len(shown)])
            on_batch(len(chosen))
        means = {name: value / total for name, value in sums.items()}
        figures = {
            "known_psnr_decoded": _psnr(means["known_mse_decoded"]),
            "known_psnr_reconstructed": _psnr(means["known_mse_reconstructed"]),
            "known_tokens_intact": kept_tokens / total,
            "known_pixels_changed": changed / total,
            "seam_ratio": means["seam"] / max(means["seam_original"], 1e-12),
        }
        accuracy = []
        if reader is not None:
            figures["class_accuracy"] = read_right / total
            accuracy = [("read as their class", f"{read_right / total:.1%}", "100%")]
        return Evaluation(
            metrics={
                **figures,
                "count": total,
                "application": self.application,
                "region": self.region,
                "from_class": self.from_class,
                "to_class": self.to_class,
                "blend": self.blend,
                "sampler": dataclasses.asdict(sampler),
                "seed": self.seed,
            },
            figures=figures,
            rows=[
                ("known region, decoded: PSNR", f"{figures['known_psnr_decoded']:.2f} dB", ""),
                (
                    "the same without an edit",
                    f"{figures['known_psnr_reconstructed']:.2f} dB",
                    "",
                ),
                ("images with all known tokens intact", f"{kept_tokens / total:.1%}", "100%"),
                (
                    f"images with a known pixel changed ({self.blend})",
                    f"{changed / total:.1%}",
                    "0%",
                ),
                (
                    "contrast across the seam over the original's",
                    f"{figures['seam_ratio']:.3f}",
                    "1",
                ),
                *accuracy,
            ],
            pictures={"edits.png": (torch.cat(shown), 4)} if shown else {},
            columns=("measured", "wanted"),
        )

    def _chosen(self, images: Images) -> list[int]:
        """Numbers of the images that are repainted."""
        wanted = (
            index
            for index in range(len(images))
            if self.from_class is None or int(images[index].label) == self.from_class
        )
        chosen = list(itertools.islice(wanted, self.count))
        if not chosen:
            raise ValueError(f"evaluation.from_class={self.from_class}: no image is of this class.")
        return chosen

    def _wanted(self, label: int) -> int:
        """The class that a result should show."""
        return label if self.to_class is None else self.to_class

    def _reader(self, models: Models) -> DigitClassifier | None:
        if self.classifier is None:
            return None
        return DigitClassifier(load_digits("train", models.autoencoder.config.image_size))

    def _mask(self, models: Models) -> Tensor:
        mask = region_mask(self.region, models.autoencoder.config.image_size)
        return ~mask if self.application == "outpaint" else mask

    def _repaint(
        self,
        models: Models,
        sampler: SamplerConfig,
        execution: ExecutionConfig,
        codes: Tensor,
        labels: Tensor,
        mask: Tensor,
        start: int,
    ) -> tuple[Tensor, Tensor]:
        """Decoded images, and their codes; both on the CPU."""
        config = models.generator.config
        count = len(codes)
        classes = labels if self.application == "edit" else null_classes(count, config.null_class)
        is_masked = token_mask(mask[None], config.grid_size, self.mask_rule).expand(count, -1)
        last: list[Tensor] = []

        def keep(progress_codes: Tensor) -> None:
            last[:] = [progress_codes.cpu()]

        decoded = generate(
            models,
            sampler,
            classes,
            execution=execution,
            seed=self.seed + start,
            batch_size=count,
            known_codes=codes,
            is_masked=is_masked,
            on_codes=keep,
        )
        return to_float(to_uint8(decoded)), last[0]

    def _blended(self, originals: Tensor, decoded: Tensor, mask: Tensor) -> Tensor:
        if self.blend == "paste":
            return torch.where(mask, decoded, originals)
        area = Image.fromarray(mask.numpy().astype(np.uint8) * 255)
        pairs = zip(originals, decoded, strict=True)
        return torch.stack(
            [to_tensor(seamless(_pil(first), _pil(second), area)) for first, second in pairs]
        )


def _pil(image: Tensor) -> Image.Image:
    return Image.fromarray(to_uint8(image).permute(1, 2, 0).contiguous().numpy())


def _psnr(mse: float) -> float:
    """Of pixels in [0, 1], from the error pooled over all images, in dB."""
    return math.inf if mse == 0 else -10 * math.log10(mse)
