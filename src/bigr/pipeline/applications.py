"""Generate and edit images with one object: :class:`bigr.BiGRPipeline`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image

from bigr.data.image_arrays import to_pil
from bigr.data.user_pictures import Crop, Picture, read_picture
from bigr.inference.generate import generate_batches
from bigr.pipeline.base import ClassName
from bigr.pipeline.repainting import RepaintingPipeline
from bigr.sampling.conditioning import (
    ENRICHMENT,
    INTERPOLATION,
    INTERPOLATION_RATIOS,
    cell_groups,
    class_mixtures,
)
from bigr.sampling.sampler import ProgressCallback
from bigr.sampling.sampler_config import SamplerConfig
from bigr.schema import Fraction, PositiveInt, checked


class GeneratedPicture(NamedTuple):
    """An image of a class, and what it was generated from."""

    class_id: int
    seed: int
    picture: Image.Image


class BiGRPipeline(RepaintingPipeline):
    """Generate and edit images with a generator and its B-AE.

    All methods that sample have these arguments in common: ``seed`` (image i has seed ``seed + i``,
    which is its only source of randomness), ``sampler`` (settings; by default the paper's for the
    application), and ``on_iteration``, a function that is called with a
    :class:`bigr.sampling.sampler.Progress` after each iteration. Further keyword arguments, such as
    ``guidance_scale=3.0``, replace single settings.

    Args:
        generator: the generator.
        autoencoder: the B-AE whose codes it generates.
        class_names: one name per class; by default ImageNet-1K's for 1,000 classes, and none for
            other numbers, so that classes are given by number.
        device: where to compute, such as ``cpu``, ``cuda`` or ``auto``.
        batch_size: number of images that are computed at a time; it does not affect the images.
        execution: numerical precision, and how the denoising chain is run.

    Raises:
        ValueError: if the two models do not belong together, or the device does not exist.
    """

    def generate(
        self, classes: ClassName | Sequence[ClassName], *, num_per_class: PositiveInt = 1,
        seed: int = 0, sampler: SamplerConfig | None = None,
        on_iteration: ProgressCallback | None = None, **settings: Any,
    ) -> list[Image.Image]:  # fmt: skip
        """Generate ``num_per_class`` images of each class, class by class."""
        found = self.stream(
            classes, num_per_class=num_per_class, seed=seed, sampler=sampler,
            on_iteration=on_iteration, **settings,
        )  # fmt: skip
        return [one.picture for one in found]

    def stream(
        self, classes: ClassName | Sequence[ClassName], *, num_per_class: PositiveInt = 1,
        seed: int = 0, sampler: SamplerConfig | None = None,
        on_iteration: ProgressCallback | None = None, share: tuple[int, int] = (0, 1),
        **settings: Any,
    ) -> Iterator[GeneratedPicture]:  # fmt: skip
        """Return an iterator over the images of :meth:`generate`, which samples as it advances.

        Args:
            classes: numbers or names; the number of classes stands for the null class.
            num_per_class: number of images of each class.
            seed: seed of the first image.
            sampler: settings; by default those of the paper for BiGR-L.
            on_iteration: see the class.
            share: (rank, count) of this process among those that share the work; see
                :func:`bigr.inference.generate.generate_batches`.
            settings: single settings to replace.

        Raises:
            ValueError: for an unknown class or settings that do not fit; before sampling begins.
        """
        names = [classes] if isinstance(classes, int | str) else list(classes)
        if not names or num_per_class < 1:
            raise ValueError("give at least one class, and num_per_class of at least 1.")
        ids = torch.tensor(list(map(self.class_id, names)))
        labels = ids.repeat_interleave(num_per_class)
        batches = generate_batches(
            self.models, self._prepare(sampler, SamplerConfig(), settings), labels,
            seed=seed, share=share, batch_size=self.batch_size, on_iteration=on_iteration,
        )  # fmt: skip
        return (
            GeneratedPicture(int(labels[index]), seed + index, picture)
            for batch in batches
            for index, picture in zip(batch.indices, map(to_pil, batch.images), strict=True)
        )

    @checked
    def interpolate(
        self, first: ClassName, second: ClassName, *, ratios: Sequence[Fraction] | None = None,
        seed: int = 0, sampler: SamplerConfig | None = None,
        on_iteration: ProgressCallback | None = None, **settings: Any,
    ) -> list[Image.Image]:  # fmt: skip
        """Generate images of mixtures of two classes, all from the same seed.

        Args:
            first: number or name of a class.
            second: number or name of another class.
            ratios: share of the second class in each image; None means the paper's 27 ratios.
            seed: seed of every image.
            sampler: settings; by default those of the paper for BiGR-L.
            on_iteration: see the class.
            settings: single settings to replace.
        """
        ratios = INTERPOLATION_RATIOS if ratios is None else ratios
        if not ratios:
            raise ValueError("ratios must contain at least one number.")
        classes = class_mixtures(
            self.models.generator, self.class_id(first), self.class_id(second), ratios
        )
        batches = generate_batches(
            self.models, self._prepare(sampler, INTERPOLATION, settings), classes,
            seeds=[seed] * len(ratios), batch_size=self.batch_size, on_iteration=on_iteration,
        )  # fmt: skip
        return [to_pil(image) for batch in batches for image in batch.images]

    @checked
    def enrich(
        self, image: Picture, *, class_name: ClassName | None = None,
        num_variants: PositiveInt = 1, num_rounds: PositiveInt = 4,
        seed: int = 0, sampler: SamplerConfig | None = None,
        on_iteration: ProgressCallback | None = None, **settings: Any,
    ) -> list[Image.Image]:  # fmt: skip
        """Enlarge an image of half the model's resolution to twice its size, and add details.

        Each round samples a quarter of the tokens anew, one in every 2x2 cell, given all others.
        Four rounds replace every token once.

        Args:
            image: image of any size; its centre square is first resized to half the resolution.
            class_name: class of the image, which guidance needs; None, as in the paper, means no
                guidance.
            num_variants: number of results, which have different seeds.
            num_rounds: number of rounds.
            seed: seed of the first variant.
            sampler: settings; by default the linear mask schedule and 20 iterations.
            on_iteration: see the class.
            settings: single settings to replace.
        """
        small = Crop(read_picture(image).convert("RGB"), self.image_size // 2).image()
        enlarged = torch.nn.functional.interpolate(small[None], scale_factor=2, mode="bilinear")
        codes = self.encode(enlarged).repeat_interleave(num_variants, dim=0)
        null = self.models.generator.config.null_class
        if class_name is None:
            settings["guidance_scale"] = 1.0  # without a class, guidance has no effect
        classes = torch.tensor([null if class_name is None else self.class_id(class_name)])
        prepared = self._prepare(sampler, ENRICHMENT, settings)
        draws = [torch.Generator().manual_seed(seed + index) for index in range(num_variants)]
        groups = torch.stack([cell_groups(self.grid_size, draw) for draw in draws], dim=1)
        for number in range(num_rounds):
            codes = prepared.sample(
                self.models.generator,
                classes.expand(num_variants),
                known_codes=codes,
                is_masked=groups[number % len(groups)],
                # Every round needs new random numbers.
                seeds=[int(torch.randint(2**62, (), generator=draw)) for draw in draws],
                on_iteration=on_iteration,
            )
        return list(map(to_pil, self.decode(codes)))
