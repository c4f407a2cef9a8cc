"""Inpainting, outpainting and editing: sample some tokens of given images and keep the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from PIL import Image
from torch import Tensor

from bigr.data.image_arrays import to_pil
from bigr.data.user_pictures import (
    WHITE,
    Box,
    Crop,
    Picture,
    read_mask,
    read_picture,
    require_opencv,
    seamless,
)
from bigr.inference.generate import generate_batches
from bigr.pipeline.base import ClassName
from bigr.pipeline.options import SamplingOptions, with_options
from bigr.pipeline.storage import StoredPipeline
from bigr.sampling.conditioning import INPAINTING, KnownBits, MaskRule, token_mask
from bigr.sampling.sampler import ProgressCallback
from bigr.sampling.sampler_config import SamplerConfig
from bigr.schema import ImageCount, NonNegativeInt, checked

if TYPE_CHECKING:
    from typing_extensions import Unpack

Blend = Literal["paste", "poisson", "none"]
Mask = Picture | Sequence[Box] | None


@dataclass(frozen=True)
class Repainted:
    """A repainted image, with the codes and the mask that it was made from."""

    picture: Image.Image
    """The result in the size of the original, or the decoded square with ``blend="none"``."""
    square: Tensor
    """(3, S, S) in [0, 1]: the decoded centre square."""
    known_codes: Tensor
    """(N, K) codes of the original."""
    codes: Tensor
    """(N, K) codes of the result."""
    is_masked: Tensor
    """(N,) bool, True for tokens that were sampled."""


class RepaintingPipeline(StoredPipeline):
    """The part of :class:`bigr.BiGRPipeline` that repaints given images."""

    @with_options
    def inpaint(
        self, image: Picture, mask: Mask = None, *, class_name: ClassName | None = None,
        num_variants: ImageCount = 1, blend: Blend = "paste", mask_rule: MaskRule = "any",
        known_bits: KnownBits = "drawn", seed: int = 0, sampler: SamplerConfig | None = None,
        on_iteration: ProgressCallback | None = None, **options: Unpack[SamplingOptions],
    ) -> list[Image.Image]:  # fmt: skip
        """Repaint the masked part of an image.

        Args:
            image: an image of any size; the model sees its centre square, as ADM crops it.
            mask: white, or opaque, is repainted; or boxes [left, top, right, bottom] in pixels of
                the image; None repaints the transparent pixels. A token (1/16 of the side) is
                sampled as a whole.
            class_name: the class to paint; None paints something that fits, without guidance.
            num_variants: number of results, which have different seeds.
            blend: ``paste`` puts the repainted pixels into the original, whose size and other
                pixels stay the same; ``poisson`` also hides the seams, with OpenCV; ``none``
                returns the decoded square, including the B-AE's reconstruction of known tokens.
            mask_rule: ``any`` samples each token that the mask touches, ``nearest`` those whose
                first pixel is masked, as the released code does.
            known_bits: ``drawn`` draws the bits of the known tokens from the B-AE's probabilities,
                with the seed of each result, as the released code does; ``likelier`` takes the more
                likely value of each bit, so that all variants have the same known tokens.
            seed: seed of the first variant.
            sampler: settings; by default those of the model with the linear mask schedule, greedy
                order and 25 iterations.
            on_iteration: see the class.
            options: ``seeds`` or ``generator`` instead of ``seed``, and single settings to replace.

        Raises:
            ValueError: if image and mask do not fit, or the mask touches no token.
        """
        found = self.repaint(
            [image], [mask], [class_name], num_variants=num_variants, blend=blend,
            mask_rule=mask_rule, known_bits=known_bits, seed=seed, sampler=sampler,
            on_iteration=on_iteration, **options,
        )  # fmt: skip
        return [variant.picture for variant in found]

    @with_options
    def outpaint(
        self, image: Picture, keep: Mask = None, *, class_name: ClassName | None = None,
        num_variants: ImageCount = 1, blend: Blend = "paste", mask_rule: MaskRule = "any",
        known_bits: KnownBits = "drawn", seed: int = 0, sampler: SamplerConfig | None = None,
        on_iteration: ProgressCallback | None = None, **options: Unpack[SamplingOptions],
    ) -> list[Image.Image]:  # fmt: skip
        """Repaint everything except ``keep``: :meth:`inpaint` with the mask inverted.

        Args:
            image: see :meth:`inpaint`.
            keep: the part to keep, in the forms of a mask of :meth:`inpaint`; None keeps the middle
                half of each side.
            class_name: see :meth:`inpaint`, which also describes the other arguments.
        """
        picture = read_picture(image)
        if keep is None:
            width, height = picture.size
            keep = [[width // 4, height // 4, width - width // 4, height - height // 4]]
        kept = read_mask(keep, picture, "keep")
        if kept.getextrema()[0] >= WHITE:  # type: ignore[operator]
            raise ValueError("keep covers the whole image: nothing is left to paint.")
        return self.inpaint(
            picture.convert("RGB"), kept.point(lambda v: 255 - v), class_name=class_name,
            num_variants=num_variants, blend=blend, mask_rule=mask_rule,
            known_bits=known_bits, seed=seed, sampler=sampler, on_iteration=on_iteration,
            **options,
        )  # fmt: skip

    @with_options
    def edit(
        self, image: Picture, mask: Mask = None, *, class_name: ClassName,
        num_variants: ImageCount = 1, blend: Blend = "paste", mask_rule: MaskRule = "any",
        known_bits: KnownBits = "drawn", seed: int = 0, sampler: SamplerConfig | None = None,
        on_iteration: ProgressCallback | None = None, **options: Unpack[SamplingOptions],
    ) -> list[Image.Image]:  # fmt: skip
        """Repaint the masked part of an image as ``class_name``; see :meth:`inpaint`."""
        return self.inpaint(
            image, mask, class_name=class_name, num_variants=num_variants, blend=blend,
            mask_rule=mask_rule, known_bits=known_bits, seed=seed, sampler=sampler,
            on_iteration=on_iteration, **options,
        )  # fmt: skip

    @with_options
    @checked
    def repaint(
        self, images: Sequence[Picture], masks: Sequence[Mask],
        class_names: Sequence[ClassName | None], *,
        num_variants: ImageCount = 1, blend: Blend = "paste", mask_rule: MaskRule = "any",
        known_bits: KnownBits = "drawn", seed: NonNegativeInt = 0,
        sampler: SamplerConfig | None = None, on_iteration: ProgressCallback | None = None,
        **options: Unpack[SamplingOptions],
    ) -> list[Repainted]:  # fmt: skip
        """Repaint several images in the same batches, and also return codes and masks.

        Args:
            images: n images; see :meth:`inpaint` for these and the arguments below.
            masks: one for each image.
            class_names: one for each image; either all or none of them are None.

        Returns:
            n * ``num_variants`` results, image by image; number i has seed ``seed + i``.
        """
        if blend == "poisson":
            require_opencv()
        # 1. Read the images and masks, and bring them to the resolution of the model.
        pictures = [read_picture(image) for image in images]
        areas = [read_mask(*pair) for pair in zip(masks, pictures, strict=True)]
        crops = [Crop(picture.convert("RGB"), self.image_size) for picture in pictures]
        pixels = torch.stack([crop.mask(area) for crop, area in zip(crops, areas, strict=True)])
        for crop in [crop for crop, part in zip(crops, pixels, strict=True) if not part.any()]:
            raise ValueError(
                "the mask touches no token: it lies outside of the centre square "
                f"{list(crop.box)}, which is all that the model sees of the image."
            )
        is_masked = token_mask(pixels, self.grid_size, mask_rule).repeat_interleave(num_variants, 0)
        squares = torch.stack([crop.image() for crop in crops])
        # 2. Prepare. Without a class, guidance has no effect.
        null = self.models.generator.config.null_class
        ids = [null if name is None else self.class_id(name) for name in class_names]
        if None in class_names:
            options["guidance_scale"] = 1.0
        prepared, seeds = self._prepare(len(is_masked), seed, sampler, INPAINTING, options)
        # 3. Sample the masked tokens.
        known = self.encode_known(squares, seeds, known_bits)
        batches = generate_batches(
            self.models, prepared, torch.tensor(ids).repeat_interleave(num_variants), seeds=seeds,
            known_codes=known, is_masked=is_masked, batch_size=self.batch_size,
            on_iteration=self._with_bar(on_iteration, len(is_masked)),
        )  # fmt: skip
        # 4. Put the results into the originals.
        results = []
        for batch in batches:
            for index, codes, square in zip(batch.indices, batch.codes, batch.images, strict=True):
                place, picture = index // num_variants, to_pil(square)
                if blend == "poisson":
                    picture = seamless(to_pil(squares[place]), picture, to_pil(pixels[place]))
                if blend != "none":
                    picture = crops[place].paste(picture, areas[place])
                results.append(Repainted(picture, square, known[index], codes, is_masked[index]))
        return results
