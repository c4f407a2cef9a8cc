"""What the app's buttons do, without Gradio: checked input in, pictures as they come into being."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bigr.app.steps import CANVAS_SIDE, COLUMNS, Step, steps_of
from bigr.data.examples import example_pictures
from bigr.data.user_pictures import read_picture
from bigr.inference.preview import Film
from bigr.pipeline import BiGRPipeline, Blend, to_pil
from bigr.sampling.conditioning import ENRICHMENT, INPAINTING, INTERPOLATION
from bigr.sampling.sampler import ProgressCallback
from bigr.sampling.sampler_config import SamplerConfig

WHATEVER = -1
"""Number of "no class" in menus."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one request may ask for."""

    upload_mb: int = 20
    megapixels: float = 25
    pictures: int = 16
    iterations: int = 64

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int | float) or value <= 0:
                raise ValueError(f"limits.{field.name} must be a positive number, got {value!r}.")


@dataclasses.dataclass(frozen=True)
class Knobs:
    """What the sliders say."""

    guidance_scale: float
    num_iterations: int
    gumbel_temperature: float
    seed: int


class Actions:
    """The applications of one pipeline, each a generator of :class:`Step`.

    Args:
        pipeline: what makes the pictures.
        sampler: settings that no slider changes, and where the sliders start.
        limits: of one request.
    """

    def __init__(self, pipeline: BiGRPipeline, sampler: SamplerConfig, limits: Limits) -> None:
        self.pipeline = pipeline
        self.sampler = sampler
        self.limits = limits

    @property
    def class_choices(self) -> list[tuple[str, int]]:
        """Menu entries: name and number."""
        num_classes = self.pipeline.models.generator.config.num_classes
        names = self.pipeline.class_names
        if names is None:
            return [(str(index), index) for index in range(num_classes)]
        return [
            (name if name == str(index) else f"{name} ({index})", index)
            for index, name in enumerate(names)
        ]

    def examples(self) -> list[Image.Image]:
        """Pictures to begin with, of what this model might have seen."""
        return example_pictures(self.pipeline.image_size)

    def open(self, path: str | None) -> Image.Image:
        """A picture that somebody has sent, checked before it is decoded.

        Raises:
            ValueError: if there is none, or it is no picture within the limits.
        """
        if not path:
            raise ValueError("Give a picture first: drop one, or take an example.")
        if Path(path).is_file() and Path(path).stat().st_size > self.limits.upload_mb * 2**20:
            raise ValueError(f"The file is larger than {self.limits.upload_mb} MB.")
        return read_picture(path, "The picture", self.limits.megapixels * 1e6)

    def canvas(self, picture: Image.Image) -> Image.Image:
        """The picture in the size in which it is painted on."""
        scale = CANVAS_SIDE / max(picture.size)
        size = tuple(max(1, round(side * scale)) for side in picture.size)
        is_small = max(picture.size) < CANVAS_SIDE // 4
        method = Image.Resampling.NEAREST if is_small else Image.Resampling.LANCZOS
        return picture.resize(size, method)  # type: ignore[arg-type]

    def generate(self, classes: Sequence[int], num_per_class: int, knobs: Knobs) -> Iterator[Step]:
        """Pictures of classes."""
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
        """Inpainting, outpainting and editing.

        Args:
            path: of the picture.
            strokes: painted on its canvas, RGBA.
            keeps_strokes: what was painted stays, and the rest is repainted.
            class_id: what to paint, or ``WHATEVER`` fits.
            num_variants: pictures.
            blend: see :meth:`bigr.BiGRPipeline.inpaint`.
            knobs: sliders.
        """
        self._check_count(num_variants)
        picture = self.open(path)
        mask = _painted(strokes, picture.size)
        if mask is None and not keeps_strokes and picture.mode != "RGBA":
            raise ValueError("Paint over what is to be repainted first.")
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
        """From one class to another, ends in an animation."""
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
        """Details for a small picture."""
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
        """A picture as the model sees it: its square, and the same through the bits and back."""
        square = self.pipeline.load(picture.convert("RGB"))
        return [*to_pil(square), *to_pil(self.pipeline.decode(self.pipeline.encode(square)))]

    def _check_count(self, count: int) -> None:
        if not 1 <= count <= self.limits.pictures:
            raise ValueError(f"{count} pictures: 1 to {self.limits.pictures} are made at a time.")

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
        """Of ``count`` pictures."""
        film = Film(self.pipeline.models.autoencoder, count, COLUMNS)
        told = {**settings, "sampler": dataclasses.asdict(sampler)}
        return steps_of(call, film, told, animates_result=animates_result)


def _painted(strokes: Image.Image | None, size: tuple[int, int]) -> Image.Image | None:
    """The opaque part of ``strokes`` in the picture's size as a mask, or None if there is none."""
    if strokes is None:
        return None
    alpha = np.asarray(strokes.convert("RGBA").getchannel("A"))
    if not (alpha > 0).any():
        return None
    full = Image.fromarray((alpha > 0).astype(np.uint8) * 255)
    return full.resize(size, Image.Resampling.NEAREST)
