"""One object for people: pictures in, pictures out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch
from PIL import Image

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
from bigr.inference.devices import check_sampler
from bigr.pipeline.base import ClassName, PipelineBase, to_pil
from bigr.sampling.conditioning import (
    ENRICHMENT,
    INPAINTING,
    INTERPOLATION,
    INTERPOLATION_RATIOS,
    MaskRule,
    cell_groups,
    class_mixtures,
    token_mask,
)
from bigr.sampling.sampler import ProgressCallback, Sampler
from bigr.sampling.sampler_config import SamplerConfig

Blend = Literal["paste", "poisson", "none"]
BLENDS = ("paste", "poisson", "none")
Mask = Picture | Sequence[Box] | None


class BiGRPipeline(PipelineBase):
    """Generate and edit pictures with a generator and its B-AE.

    Every method that samples takes ``seed`` (image i uses ``seed + i``; the result depends on
    nothing else), ``sampler`` (the paper's settings for the application by default) and
    ``on_iteration``, called with a :class:`bigr.sampling.sampler.Progress` after each iteration.
    Settings such as ``guidance_scale=3.0`` replace single ones of the sampler.

    Args:
        generator: in evaluation mode.
        autoencoder: whose codes it makes.
        class_names: one per class; ImageNet-1K's for 1,000 classes, by default.
        device: ``auto``, ``cpu``, ``cuda``, …
        batch_size: images at a time; without influence on them.
        execution: precision and mode of the computation.

    Raises:
        ValueError: if the two don't fit, or for a device that isn't there.
    """

    def generate(
        self,
        classes: ClassName | Sequence[ClassName],
        *,
        num_per_class: int = 1,
        seed: int = 0,
        sampler: SamplerConfig | None = None,
        on_iteration: ProgressCallback | None = None,
        **settings: Any,
    ) -> list[Image.Image]:
        """Pictures of classes, ``num_per_class`` of each, class by class."""
        names = [classes] if isinstance(classes, int | str) else list(classes)
        if not names or num_per_class < 1:
            raise ValueError("give at least one class, and num_per_class of at least 1.")
        ids = torch.tensor([self.class_id(name) for name in names])
        return self._sample(
            ids.repeat_interleave(num_per_class),
            self._settings(sampler, SamplerConfig(), settings),
            seed=seed,
            on_iteration=on_iteration,
        )

    def inpaint(
        self,
        image: Picture,
        mask: Mask = None,
        *,
        class_name: ClassName | None = None,
        num_variants: int = 1,
        blend: Blend = "paste",
        mask_rule: MaskRule = "any",
        seed: int = 0,
        sampler: SamplerConfig | None = None,
        on_iteration: ProgressCallback | None = None,
        **settings: Any,
    ) -> list[Image.Image]:
        """Repaint what ``mask`` says; with ``class_name`` this is class-conditional editing.

        Args:
            image: any size; the centre square is worked on, as ADM crops it.
            mask: white, or opaque, is repainted; boxes [left, top, right, bottom] in the image's
                pixels; None for the image's transparent pixels. A token (1/16 of the side) is
                sampled as a whole.
            class_name: what to paint, or None for whatever fits (guidance does nothing then).
            num_variants: pictures with different seeds.
            blend: ``paste`` the repainted pixels into the original, which keeps its size and all
                its other pixels; ``poisson``: the same, seams blended by OpenCV; ``none``: the
                decoded square, in which the known tokens look as the B-AE reconstructs them.
            mask_rule: ``any`` samples each token that the mask touches, ``nearest`` is the
                released code's rule.
            seed: of the first variant.
            sampler: settings; linear mask schedule and 25 iterations by default.
            on_iteration: see the class.
            settings: single ones to replace.

        Raises:
            ValueError: if image and mask don't fit, or the mask touches no token.
        """
        picture = read_picture(image)
        found = read_mask(mask, picture)
        return self._repaint(
            picture, found, class_name, num_variants, blend, mask_rule,
            self._settings(sampler, INPAINTING, settings), seed, on_iteration,
        )  # fmt: skip

    def outpaint(self, image: Picture, keep: Mask = None, **more: Any) -> list[Image.Image]:
        """Repaint everything but ``keep``: :meth:`inpaint` with the mask inverted.

        Args:
            image: see :meth:`inpaint`.
            keep: what stays, as a mask of :meth:`inpaint`; None keeps the middle quarter.
            more: see :meth:`inpaint`.
        """
        picture = read_picture(image)
        if keep is None:
            width, height = picture.size
            keep = [[width // 4, height // 4, width - width // 4, height - height // 4]]
        kept = read_mask(keep, picture, "keep")
        if kept.getextrema()[0] >= WHITE:  # type: ignore[operator]
            raise ValueError("keep is the whole image: nothing is left to be painted.")
        return self.inpaint(picture.convert("RGB"), kept.point(lambda v: 255 - v), **more)

    def edit(
        self, image: Picture, mask: Mask = None, *, class_name: ClassName, **more: Any
    ) -> list[Image.Image]:
        """Repaint what ``mask`` says as ``class_name``: see :meth:`inpaint`."""
        return self.inpaint(image, mask, class_name=class_name, **more)

    def interpolate(
        self,
        first: ClassName,
        second: ClassName,
        *,
        ratios: Sequence[float] = INTERPOLATION_RATIOS,
        seed: int = 0,
        sampler: SamplerConfig | None = None,
        on_iteration: ProgressCallback | None = None,
        **settings: Any,
    ) -> list[Image.Image]:
        """From one class to another: one picture per share of the second, all from one seed."""
        if not ratios or not all(0 <= ratio <= 1 for ratio in ratios):
            raise ValueError(f"ratios must be numbers in 0..1, got {list(ratios)}.")
        classes = class_mixtures(
            self.models.generator, self.class_id(first), self.class_id(second), ratios
        )
        return self._sample(
            classes,
            self._settings(sampler, INTERPOLATION, settings),
            seeds=[seed] * len(ratios),
            on_iteration=on_iteration,
        )

    def enrich(
        self,
        image: Picture,
        *,
        class_name: ClassName | None = None,
        num_variants: int = 1,
        num_rounds: int = 4,
        seed: int = 0,
        sampler: SamplerConfig | None = None,
        on_iteration: ProgressCallback | None = None,
        **settings: Any,
    ) -> list[Image.Image]:
        """Give a picture of half the model's resolution, enlarged twice, the details it lacks.

        A quarter of the tokens, one of every 2x2 cell, is sampled anew in each round, given the
        others; four rounds renew all of them.

        Args:
            image: any size; its centre square is brought to half the resolution first.
            class_name: what it shows, which gives guidance a meaning; None as in the paper.
            num_variants: pictures with different seeds.
            num_rounds: groups of tokens that are sampled.
            seed: of the first variant.
            sampler: settings; linear mask schedule and 20 iterations by default.
            on_iteration: see the class.
            settings: single ones to replace.
        """
        if num_variants < 1 or num_rounds < 1:
            raise ValueError("num_variants and num_rounds must be at least 1.")
        small = Crop(read_picture(image).convert("RGB"), self.image_size // 2).image()
        enlarged = torch.nn.functional.interpolate(small[None], scale_factor=2, mode="bilinear")
        codes = self.encode(enlarged).repeat_interleave(num_variants, dim=0)
        config = self._settings(sampler, ENRICHMENT, settings)
        if class_name is None:
            config = dataclasses.replace(config, guidance_scale=1.0)  # both halves are the same
        check_sampler(self.models, config, self.execution)
        classes = self._classes(class_name, num_variants)
        draws = [torch.Generator().manual_seed(seed + index) for index in range(num_variants)]
        groups = torch.stack([cell_groups(self.grid_size, draw) for draw in draws], dim=1)
        for number in range(num_rounds):
            codes = Sampler(config, self.execution).sample(
                self.models.generator,
                classes,
                known_codes=codes,
                is_masked=groups[number % len(groups)],
                # Other random numbers in each round.
                seeds=[int(torch.randint(2**62, (), generator=draw)) for draw in draws],
                on_iteration=on_iteration,
            )
        return to_pil(self.decode(codes))

    def _repaint(
        self,
        picture: Image.Image,
        mask: Image.Image,
        class_name: ClassName | None,
        num_variants: int,
        blend: str,
        mask_rule: MaskRule,
        config: SamplerConfig,
        seed: int,
        on_iteration: ProgressCallback | None,
    ) -> list[Image.Image]:
        if blend not in BLENDS:
            raise ValueError(f"blend={blend}: it can be {', '.join(BLENDS)}.")
        if num_variants < 1:
            raise ValueError(f"num_variants must be at least 1, got {num_variants}.")
        if blend == "poisson":
            require_opencv()
        crop = Crop(picture.convert("RGB"), self.image_size)
        pixels = crop.mask(mask)
        if not pixels.any():
            raise ValueError(
                "the mask touches no token: it lies outside of the centre square "
                f"{list(crop.box)}, which is all that the model sees of the image."
            )
        is_masked = token_mask(pixels[None], self.grid_size, mask_rule)
        codes = self.encode(crop.image()[None])
        if class_name is None:
            config = dataclasses.replace(config, guidance_scale=1.0)  # both halves are the same
        squares = self._sample(
            self._classes(class_name, num_variants),
            config,
            seed=seed,
            known_codes=codes.expand(num_variants, -1, -1),
            is_masked=is_masked.expand(num_variants, -1),
            on_iteration=on_iteration,
        )
        if blend == "none":
            return squares
        if blend == "poisson":
            area = Image.fromarray(pixels.numpy().astype("uint8") * 255)
            base = to_pil(crop.image()[None])[0]
            squares = [seamless(base, square, area) for square in squares]
        return [crop.paste(square, mask) for square in squares]
