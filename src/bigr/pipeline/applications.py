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

    Every method that samples takes ``seed`` (image i uses ``seed + i``; the result depends on
    nothing else), ``sampler`` (the paper's settings for the application by default) and
    ``on_iteration``, which is called with a :class:`bigr.sampling.sampler.Progress` after each
    iteration. Further keyword arguments such as ``guidance_scale=3.0`` replace single settings of
    the sampler.

    Args:
        generator: the generator.
        autoencoder: the B-AE whose codes it generates.
        class_names: one name per class; by default ImageNet-1K's for 1,000 classes, and none for
            other numbers, so that classes are given by number.
        device: ``auto``, ``cpu``, ``cuda``, ….
        batch_size: images at a time; it does not change them.
        execution: precision and mode of the computation.

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
        """Generate the images of :meth:`generate` one after the other, without keeping them.

        Args:
            classes: numbers or names; the number of classes stands for the null class.
            num_per_class: images of each class.
            seed: seed of the first image.
            sampler: settings; those of BiGR-L in the paper by default.
            on_iteration: see the class.
            share: (rank, count) of this process among those that share the work; see
                :func:`bigr.inference.generate.generate_batches`.
            settings: single settings to replace.

        Raises:
            ValueError: for an unknown class, at once; sampling begins with the first image.
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
        """Go from one class to another, with one image per ratio, all from one seed.

        Args:
            first: class by number or name.
            second: another class.
            ratios: shares of the second class; None takes the paper's 27.
            seed: seed of every image.
            sampler: settings.
            on_iteration: see the class.
            settings: single settings to replace.
        """
        ratios = INTERPOLATION_RATIOS if ratios is None else ratios
        if not ratios:
            raise ValueError("ratios must have at least one number.")
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
        """Add the missing details to an image of half the model's resolution, enlarged twice.

        In each round a quarter of the tokens, one of every 2x2 cell, is sampled anew, given all
        others. Four rounds renew every token once.

        Args:
            image: any size; its centre square is brought to half the resolution first.
            class_name: its class, which makes guidance effective; None as in the paper.
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
            settings["guidance_scale"] = 1.0  # both halves of guidance are the same
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
                # Each round draws other random numbers.
                seeds=[int(torch.randint(2**62, (), generator=draw)) for draw in draws],
                on_iteration=on_iteration,
            )
        return list(map(to_pil, self.decode(codes)))
