"""What the buttons of the app do, without Gradio: checked input in, frames and images out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bigr.app.steps import CANVAS_SIDE, COLUMNS, Step, steps_of
from bigr.data.examples import example_pictures
from bigr.data.image_arrays import to_pil
from bigr.data.user_pictures import read_picture
from bigr.inference.preview import Film
from bigr.pipeline import BiGRPipeline, Blend
from bigr.sampling.conditioning import ENRICHMENT, INPAINTING, INTERPOLATION
from bigr.sampling.sampler import ProgressCallback
from bigr.sampling.sampler_config import SamplerConfig
from bigr.schema import PositiveFloat, PositiveInt, check_fields

WHATEVER = -1
"""The value that stands for no class in menus."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """The most that one request may ask for.

    Args:
        upload_mb: size of an uploaded file in megabytes.
        megapixels: size of an image.
        pictures: images generated at a time.
        iterations: iterations of the sampler.
    """

    upload_mb: PositiveFloat = 20
    megapixels: PositiveFloat = 25
    pictures: PositiveInt = 16
    iterations: PositiveInt = 64

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class Knobs:
    """The values of the sliders and of the seed."""

    guidance_scale: float
    num_iterations: int
    gumbel_temperature: float
    seed: int


class Actions:
    """The applications of one pipeline; each yields a :class:`Step` per iteration.

    Args:
        pipeline: generates the images.
        sampler: initial values of the sliders, and the settings that no slider changes.
        limits: the most that one request may ask for.
    """

    def __init__(self, pipeline: BiGRPipeline, sampler: SamplerConfig, limits: Limits) -> None:
        self.pipeline = pipeline
        self.sampler = sampler
        self.limits = limits

    @property
    def class_choices(self) -> list[tuple[str, int]]:
        """The entries of class menus: names and numbers."""
        num_classes = self.pipeline.models.generator.config.num_classes
        names = self.pipeline.class_names
        if names is None:
            return [(str(index), index) for index in range(num_classes)]
        return [
            (name if name == str(index) else f"{name} ({index})", index)
            for index, name in enumerate(names)
        ]

    def examples(self) -> list[Image.Image]:
        """Return example images of the kind that this model may have been trained on."""
        return example_pictures(self.pipeline.image_size)

    def open(self, path: str | None) -> Image.Image:
        """Open an uploaded image, which is checked before it is decoded.

        Raises:
            ValueError: if there is none, or if it is not an image within the limits.
        """
        if not path:
            raise ValueError("Give a picture first: drop one, or take an example.")
        if Path(path).is_file() and Path(path).stat().st_size > self.limits.upload_mb * 2**20:
            raise ValueError(f"The file is larger than {self.limits.upload_mb:g} MB.")
        return read_picture(path, "The picture", self.limits.megapixels * 1e6)

    def canvas(self, picture: Image.Image) -> Image.Image:
        """Return the image in the size of the canvas on which masks are painted."""
        scale = CANVAS_SIDE / max(picture.size)
        size = tuple(max(1, round(side * scale)) for side in picture.size)
        is_small = max(picture.size) < CANVAS_SIDE // 4
        method = Image.Resampling.NEAREST if is_small else Image.Resampling.LANCZOS
        return picture.resize(size, method)  # type: ignore[arg-type]

    def generate(self, classes: Sequence[int], num_per_class: int, knobs: Knobs) -> Iterator[Step]:
        """Generate images of the chosen classes."""
        if not classes:
            raise ValueError("Choose at least one class.")
        self._check_count(len(classes) * int(num_per_class))
        sampler = self._settings(self.sampler, knobs)
        return self._steps(
            lambda record: self.pipeline.generate(
                [int(label) for label in classes],
                num_per_class=int(num_per_class),
                seed=knobs.seed,
                sampler=sampler,
                on_iteration=record,
            ),
            sampler,
            {"application": "generate", "classes": list(classes), "seed": knobs.seed},
            len(classes) * int(num_per_class),
        )

    def repaint(
        self,
        path: str | None,
        strokes: Image.Image | None,
        keeps_strokes: bool,
        class_id: int,
        num_variants: int,
        blend: Blend,
        knobs: Knobs,
    ) -> Iterator[Step]:
        """Inpaint, outpaint or edit an image.

        Args:
            path: path of the image.
            strokes: RGBA image of the size of the canvas, opaque where it was painted.
            keeps_strokes: keep the painted part and repaint the rest, instead of the opposite.
            class_id: class to paint, or ``WHATEVER``.
            num_variants: number of results.
            blend: see :meth:`bigr.BiGRPipeline.inpaint`.
            knobs: values of the sliders.
        """
        self._check_count(num_variants)
        picture = self.open(path)
        mask = _painted(strokes, picture.size)
        if mask is None and not keeps_strokes and picture.mode != "RGBA":
            raise ValueError("Paint over the part to repaint first.")
        method = self.pipeline.outpaint if keeps_strokes else self.pipeline.inpaint
        sampler = self._settings(self.sampler, knobs, INPAINTING)
        label = None if class_id == WHATEVER else int(class_id)
        name = "outpaint" if keeps_strokes else "inpaint" if label is None else "edit"
        return self._steps(
            lambda record: method(
                picture,
                mask,
                class_name=label,
                num_variants=int(num_variants),
                blend=blend,
                seed=knobs.seed,
                sampler=sampler,
                on_iteration=record,
            ),
            sampler,
            {"application": name, "class": label, "blend": blend, "seed": knobs.seed},
            int(num_variants),
        )

    def interpolate(self, first: int, second: int, count: int, knobs: Knobs) -> Iterator[Step]:
        """Interpolate between two classes; the result is an animation."""
        self._check_count(count)
        if count < 2:
            raise ValueError("An interpolation has at least two pictures.")
        sampler = self._settings(self.sampler, knobs, INTERPOLATION)
        ratios = [index / (int(count) - 1) for index in range(int(count))]
        return self._steps(
            lambda record: self.pipeline.interpolate(
                int(first), int(second),
                ratios=ratios, seed=knobs.seed, sampler=sampler, on_iteration=record,
            ),
            sampler,
            {"application": "interpolate", "first": first, "second": second, "seed": knobs.seed},
            int(count),
            animates_result=True,
        )  # fmt: skip

    def enrich(
        self, path: str | None, class_id: int, num_variants: int, knobs: Knobs
    ) -> Iterator[Step]:
        """Add details to a small image."""
        self._check_count(num_variants)
        picture = self.open(path)
        sampler = self._settings(self.sampler, knobs, ENRICHMENT)
        label = None if class_id == WHATEVER else int(class_id)
        return self._steps(
            lambda record: self.pipeline.enrich(
                picture, class_name=label, num_variants=int(num_variants),
                seed=knobs.seed, sampler=sampler, on_iteration=record,
            ),
            sampler,
            {"application": "enrich", "class": label, "seed": knobs.seed},
            int(num_variants),
        )  # fmt: skip

    def reconstruct(self, picture: Image.Image) -> list[Image.Image]:
        """Return the centre square of an image, and its reconstruction by the B-AE."""
        square = self.pipeline.load(picture.convert("RGB"))
        decoded = self.pipeline.decode(self.pipeline.encode(square))
        return [*map(to_pil, square), *map(to_pil, decoded)]

    def _check_count(self, count: int) -> None:
        if not 1 <= count <= self.limits.pictures:
            raise ValueError(
                f"{count} pictures: 1 to {self.limits.pictures} can be made at a time."
            )

    def _settings(
        self, base: SamplerConfig, knobs: Knobs, application: SamplerConfig | None = None
    ) -> SamplerConfig:
        if not 1 <= knobs.num_iterations <= self.limits.iterations:
            raise ValueError(f"Iterations can be 1 to {self.limits.iterations}.")
        return dataclasses.replace(
            base,
            mask_schedule=base.mask_schedule if application is None else application.mask_schedule,
            guidance_scale=float(knobs.guidance_scale),
            num_iterations=int(knobs.num_iterations),
            gumbel_temperature=float(knobs.gumbel_temperature),
        )

    def _steps(
        self,
        call: Callable[[ProgressCallback], list[Image.Image]],
        sampler: SamplerConfig,
        settings: dict[str, Any],
        count: int,
        *,
        animates_result: bool = False,
    ) -> Iterator[Step]:
        """Run ``call``, which makes ``count`` images, and yield what there is to see."""
        film = Film(self.pipeline.models.autoencoder, count, COLUMNS)
        described = {**settings, "sampler": sampler.to_dict()}
        return steps_of(call, film, described, animates_result=animates_result)


def _painted(strokes: Image.Image | None, size: tuple[int, int]) -> Image.Image | None:
    """Return the opaque part of ``strokes`` as a mask of the given size; None if it is empty."""
    if strokes is None:
        return None
    alpha = np.asarray(strokes.convert("RGBA").getchannel("A"))
    if not (alpha > 0).any():
        return None
    full = Image.fromarray((alpha > 0).astype(np.uint8) * 255)
    return full.resize(size, Image.Resampling.NEAREST)
