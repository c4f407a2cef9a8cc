"""Generate and edit images with one object: :class:`bigr.BiGRPipeline`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from bigr.data.image_arrays import to_pil
from bigr.data.user_pictures import Crop, Picture, read_picture
from bigr.inference.generate import generate_batches
from bigr.pipeline.base import ClassName
from bigr.pipeline.generation import GeneratingPipeline
from bigr.pipeline.options import SamplingOptions, with_options
from bigr.sampling.conditioning import (
    ENRICHMENT,
    INTERPOLATION,
    INTERPOLATION_RATIOS,
    KnownBits,
    cell_places,
    class_mixtures,
    place_order,
)
from bigr.sampling.sampler import ProgressCallback
from bigr.sampling.sampler_config import SamplerConfig
from bigr.schema import Fraction, ImageCount, NonNegativeInt, PositiveInt, checked

if TYPE_CHECKING:
    from typing_extensions import Unpack


class BiGRPipeline(GeneratingPipeline):
    """Generate and edit images with a generator and its B-AE.

    Calling a pipeline generates images of classes, with the arguments of a pipeline of diffusers.

    All methods that sample have these arguments in common:

    - ``seed``: image i has seed ``seed + i``, which is its only source of randomness. Instead of
      it, ``seeds`` gives one number for each image, or ``generator`` draws them.
    - ``sampler``: settings; by default those of the model, with the changes that the paper makes
      for the application. Arguments with the names of settings, such as ``guidance_scale=3.0``,
      replace single ones.
    - ``on_iteration``: a function that is called with a :class:`bigr.sampling.sampler.Progress`
      after each iteration.

    Args:
        generator: the generator.
        autoencoder: the B-AE whose codes it generates.
        class_names: one name per class; by default those of the data that the generator was trained
            on. If these are not known, 1,000 classes have the names of ImageNet-1K, and others are
            given by number.
        sampler: settings with which to sample if a call gives none; by default those that were
            saved with the generator, or the paper's for its size.
        device: where to compute, such as ``cpu``, ``cuda`` or ``auto``.
        batch_size: number of images that are computed at a time; it does not affect the images.
        execution: numerical precision, and how the denoising chain is run.

    Raises:
        ValueError: if the two models do not belong together, or the device does not exist.
    """

    def reproduce(self, file: str | os.PathLike[str]) -> list[Image.Image]:
        """Make pictures of the web app again, bit for bit on the same device.

        Args:
            file: a ZIP or a PNG file that was downloaded from the app, or the ``settings.json`` in
                the ZIP, with the images next to it.

        Raises:
            ValueError: if the file has no valid settings, if an image that it needs is missing, or
                if the pictures were made with other weights.
        """
        from bigr.pipeline.picture_settings import PictureSettings

        settings = PictureSettings.load(Path(file).expanduser())
        settings.check_models(self)
        return settings.pictures(self)

    @with_options
    @checked
    def interpolate(
        self, first: ClassName, second: ClassName, *, ratios: Sequence[Fraction] | None = None,
        seed: NonNegativeInt = 0, sampler: SamplerConfig | None = None,
        on_iteration: ProgressCallback | None = None, **options: Unpack[SamplingOptions],
    ) -> list[Image.Image]:  # fmt: skip
        """Generate images of mixtures of two classes, all from the same seed.

        Args:
            first: number or name of a class.
            second: number or name of another class.
            ratios: share of the first class in each image; None means the paper's 27 ratios, from
                0, which is the second class, to 1, which is the first.
            seed: seed of every image.
            sampler: settings; by default those of the model with greedy order.
            on_iteration: see the class.
            options: ``seeds`` or ``generator`` instead of ``seed``, and single settings to replace.
        """
        ratios = INTERPOLATION_RATIOS if ratios is None else ratios
        if not ratios:
            raise ValueError("ratios must contain at least one number.")
        classes = class_mixtures(
            self.models.generator, self.class_id(first), self.class_id(second), ratios
        )
        prepared, seeds = self._prepare(1, seed, sampler, INTERPOLATION, options)
        batches = generate_batches(
            self.models, prepared, classes, seeds=seeds * len(ratios), batch_size=self.batch_size,
            on_iteration=self._with_bar(on_iteration, len(ratios)),
        )  # fmt: skip
        return [to_pil(image) for batch in batches for image in batch.images]

    @with_options
    @checked
    def enrich(
        self, image: Picture, *, class_name: ClassName | None = None,
        num_variants: ImageCount = 1, num_rounds: PositiveInt = 4, return_rounds: bool = False,
        known_bits: KnownBits = "drawn", seed: NonNegativeInt = 0,
        sampler: SamplerConfig | None = None, on_iteration: ProgressCallback | None = None,
        **options: Unpack[SamplingOptions],
    ) -> list[Image.Image]:  # fmt: skip
        """Enlarge an image of half the model's resolution to twice its size, and add details.

        A round goes through the four places of the 2x2 cells of tokens, in random order: it hides
        the tokens at one place of all cells, and samples them again, given all others. Each round
        starts from the tokens of the one before.

        Args:
            image: image of any size; its centre square is first resized to half the resolution.
            class_name: class of the image, which guidance needs; None, as in the paper, means no
                guidance.
            num_variants: number of results, which have different seeds.
            num_rounds: number of rounds; each takes four times the ``sampler``'s iterations.
            return_rounds: return the image after every round, not only after the last one.
            known_bits: ``drawn`` or ``likelier`` bits for the tokens of the enlarged image; see
                :meth:`inpaint`.
            seed: seed of the first variant.
            sampler: settings; by default those of the model with the linear mask schedule and
                greedy order.
            on_iteration: see the class.
            options: ``seeds`` or ``generator`` instead of ``seed``, and single settings to replace.

        Returns:
            ``num_variants`` images; with ``return_rounds``, ``num_rounds`` images of each variant,
            variant by variant.
        """
        # 1. Prepare. Without a class, guidance has no effect.
        picture, places = read_picture(image).convert("RGB"), cell_places(self.grid_size)
        model = self.models.generator
        label = model.config.null_class if class_name is None else self.class_id(class_name)
        classes = torch.tensor([label] * num_variants)
        if class_name is None:
            options["guidance_scale"] = 1.0
        prepared, variants = self._prepare(num_variants, seed, sampler, ENRICHMENT, options)
        # 2. Encode the enlarged image.
        small = Crop(picture, self.image_size // 2).image()[None]
        enlarged = torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear")
        codes = self.encode_known(enlarged, variants, known_bits)
        # 3. Sample. The order and the seeds of all samplings come from the seed of the variant.
        draws = [torch.Generator().manual_seed(variant) for variant in variants]
        batches = torch.arange(num_variants).split(self.batch_size)
        on_iteration = self._with_bar(on_iteration, num_variants, num_rounds * len(places))
        rounds = []
        for _ in range(num_rounds):
            orders = torch.stack([place_order(draw) for draw in draws], dim=1)
            for is_masked in places[orders]:
                seeds = torch.cat([torch.randint(2**62, (1,), generator=draw) for draw in draws])
                parts = [
                    prepared.sample(
                        model, classes[batch], known_codes=codes[batch], is_masked=is_masked[batch],
                        seeds=seeds[batch], on_iteration=on_iteration,
                    )
                    for batch in batches
                ]  # fmt: skip
                codes = torch.cat(parts)
            rounds.append(codes)
        shown = torch.stack(rounds if return_rounds else rounds[-1:], dim=1).flatten(0, 1)
        return list(map(to_pil, self.decode(shown)))
