"""What the buttons of the app do, without Gradio: checked input in, frames and images out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from PIL import Image

from bigr.app.steps import CANVAS_SIDE, COLUMNS, PictureJob
from bigr.data.examples import example_pictures
from bigr.data.files import check_regular
from bigr.data.image_arrays import to_pil
from bigr.data.user_pictures import read_picture
from bigr.inference.preview import Film
from bigr.pipeline import BiGRPipeline, Blend, ClassName
from bigr.pipeline.picture_settings import AppName, PictureSettings, model_digests
from bigr.sampling.conditioning import ENRICHMENT, INPAINTING, INTERPOLATION_RATIOS
from bigr.sampling.sampler_config import SamplerConfig
from bigr.schema import NonNegativeInt, PositiveFloat, PositiveInt, check_fields, checked

WHATEVER = -1
"""The value that stands for no class in menus."""
ClassChoice = Annotated[int, Ge(WHATEVER)]
MAX_SEED = 2**31 - 1
MAX_GUIDANCE = 10.0
MAX_GUMBEL = 3.0
MAX_ROUNDS = 8


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of one request, and of the files of visitors.

    Args:
        upload_mb: size of an uploaded file in megabytes.
        visitor_mb: size of all uploaded files of a visitor; older ones are deleted.
        total_mb: size of the files of all visitors.
        megapixels: size of an image.
        pictures: images generated at a time.
        iterations: iterations of the sampler.
    """

    upload_mb: PositiveFloat = 20
    visitor_mb: PositiveFloat = 100
    total_mb: PositiveFloat = 2000
    megapixels: PositiveFloat = 25
    pictures: PositiveInt = 16
    iterations: PositiveInt = 64

    def __post_init__(self) -> None:
        check_fields(self)
        if self.upload_mb > self.visitor_mb:
            raise ValueError(
                f"Limits.visitor_mb={self.visitor_mb:g} must be at least upload_mb="
                f"{self.upload_mb:g}."
            )


@dataclasses.dataclass(frozen=True)
class Knobs:
    """The values of the sliders and of the seed."""

    guidance_scale: Annotated[float, Ge(0), Le(MAX_GUIDANCE)]
    num_iterations: PositiveInt
    gumbel_temperature: Annotated[float, Ge(0), Le(MAX_GUMBEL)]
    seed: Annotated[int, Ge(0), Le(MAX_SEED)]

    def __post_init__(self) -> None:
        check_fields(self)


class Actions:
    """The applications of one pipeline; each returns a :class:`PictureJob`.

    The arguments come from the network, so every one of them is checked.

    Args:
        pipeline: generates the images.
        sampler: initial values of the sliders, and the settings that no slider changes.
        limits: the most that one request may ask for.
        name: name of the model, for ``settings.json``.
    """

    def __init__(
        self, pipeline: BiGRPipeline, sampler: SamplerConfig, limits: Limits, name: str = ""
    ) -> None:
        self.pipeline = pipeline
        self.sampler = sampler
        self.limits = limits
        self.name = name
        if sampler.num_iterations > limits.iterations:
            raise ValueError(
                f"sampler.num_iterations={sampler.num_iterations} exceeds limits.iterations="
                f"{limits.iterations}."
            )
        Knobs(sampler.guidance_scale, sampler.num_iterations, sampler.gumbel_temperature, seed=0)

    @functools.cached_property
    def models(self) -> dict[str, str]:
        """The name of the model, and the checksums of the weights."""
        return {"name": self.name, **model_digests(self.pipeline)}

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

    @property
    def description(self) -> str:
        """The name and the size of the model, in one line."""
        config = self.pipeline.models.generator.config
        count = sum(p.numel() for model in self.pipeline.models for p in model.parameters())
        side = self.pipeline.image_size
        return (
            f"{self.name or 'model'}: {count / 1e6:.3g} million parameters, {side}x{side} pixels, "
            f"{config.num_classes} classes"
        )

    def examples(self) -> list[Image.Image]:
        """Return example images that suit this model."""
        return example_pictures(self.pipeline.image_size)

    def open(self, path: str | None) -> Image.Image:
        """Open an uploaded image, and check it before it is decoded.

        Raises:
            ValueError: if there is none, or if it is not an image within the limits.
        """
        if not path:
            raise ValueError("Add a picture first: drop one, or choose an example.")
        try:
            size = check_regular(Path(path)).stat().st_size
        except OSError:
            raise ValueError("The picture is no longer there: upload it again.") from None
        if size > self.limits.upload_mb * 2**20:
            raise ValueError(f"The file is larger than {self.limits.upload_mb:g} MB.")
        return read_picture(path, "The picture", self.limits.megapixels * 1e6)

    def strokes(self, path: str | None) -> Image.Image | None:
        """Open a painted layer, or return None if there is none.

        Raises:
            ValueError: if it is larger than the canvas can be.
        """
        if path is None:
            return None
        return read_picture(path, "The canvas", (2 * CANVAS_SIDE) ** 2).convert("RGBA")

    def canvas(self, picture: Image.Image) -> Image.Image:
        """Return the image in the size of the canvas on which masks are painted."""
        scale = CANVAS_SIDE / max(picture.size)
        size = tuple(max(1, round(side * scale)) for side in picture.size)
        is_small = max(picture.size) < CANVAS_SIDE // 4
        method = Image.Resampling.NEAREST if is_small else Image.Resampling.LANCZOS
        return picture.resize(size, method)  # type: ignore[arg-type]

    @checked
    def generate(
        self, classes: Sequence[NonNegativeInt], num_per_class: PositiveInt, knobs: Knobs
    ) -> PictureJob:
        """Generate images of the chosen classes."""
        if not classes:
            raise ValueError("Choose at least one class.")
        arguments = {"classes": list(classes), "num_per_class": num_per_class}
        return self._job(
            "generate", arguments, len(classes) * num_per_class, self.sampler.mask_schedule, knobs
        )

    @checked
    def repaint(
        self,
        path: str | None,
        strokes: Image.Image | None,
        keeps_strokes: bool,
        class_id: ClassChoice,
        num_variants: PositiveInt,
        blend: Blend,
        knobs: Knobs,
    ) -> PictureJob:
        """Inpaint, outpaint or edit an image.

        Args:
            path: path of the image.
            strokes: RGBA image of the size of the canvas, opaque where the user painted.
            keeps_strokes: keep the painted part and repaint the rest, instead of the reverse.
            class_id: class to paint, or ``WHATEVER``.
            num_variants: number of results.
            blend: see :meth:`bigr.BiGRPipeline.inpaint`.
            knobs: values of the sliders.
        """
        picture = self.open(path)
        mask = _painted(strokes, picture.size)
        if mask is None and not keeps_strokes and picture.mode != "RGBA":
            raise ValueError("Paint over the part to repaint first.")
        label = None if class_id == WHATEVER else class_id
        name: AppName = "outpaint" if keeps_strokes else "inpaint" if label is None else "edit"
        arguments = {
            "image": picture,
            "keep" if keeps_strokes else "mask": mask,
            "class_name": label,
            "num_variants": num_variants,
            "blend": blend,
        }
        return self._job(name, arguments, num_variants, INPAINTING["mask_schedule"], knobs)

    @checked
    def interpolate(
        self, first: NonNegativeInt, second: NonNegativeInt, count: PositiveInt, knobs: Knobs
    ) -> PictureJob:
        """Interpolate between two classes; the result is an animation."""
        if count < 2:
            raise ValueError("An interpolation has at least two pictures.")
        self._check_count(count)
        ratios = [(count - 1 - index) / (count - 1) for index in range(count)]  # of the first
        arguments = {"first": first, "second": second, "ratios": ratios}
        return self._job("interpolate", arguments, count, self.sampler.mask_schedule, knobs)

    @checked
    def enrich(
        self, path: str | None, class_id: ClassChoice, num_variants: PositiveInt, knobs: Knobs
    ) -> PictureJob:
        """Add details to a small image."""
        label = None if class_id == WHATEVER else class_id
        arguments = {"image": self.open(path), "class_name": label, "num_variants": num_variants}
        return self._job("enrich", arguments, num_variants, ENRICHMENT["mask_schedule"], knobs)

    def reproduce(self, path: str | None) -> PictureJob:
        """Make the pictures again from a ZIP, PNG or ``settings.json`` of the app.

        Raises:
            ValueError: if the file has no valid settings, if they are those of another model, or if
                they ask for more than the limits allow.
        """
        if not path:
            raise ValueError("Add a file first: a ZIP, a PNG or a settings.json of this app.")
        try:
            settings = PictureSettings.load(Path(path))
        except ValueError as error:
            raise ValueError(str(error).removeprefix(f"settings={path}: ")) from error
        settings.check_models(self.pipeline)
        # The limits of a request.
        arguments, name = dict(settings.arguments), settings.application
        if name == "generate":
            classes = arguments.get("classes")
            arguments["classes"] = classes if isinstance(classes, list) else [classes]
            count = len(arguments["classes"]) * arguments.get("num_per_class", 1)
        elif name == "interpolate":
            if not arguments.get("ratios"):
                arguments["ratios"] = list(INTERPOLATION_RATIOS)
            count = len(arguments["ratios"])
        else:
            count = arguments.get("num_variants", 1)
        if arguments.get("num_rounds", 1) > MAX_ROUNDS or arguments.get("return_rounds"):
            raise ValueError(f"num_rounds can be 1 to {MAX_ROUNDS} here, without return_rounds.")
        sampler = settings.sampler
        rounds = sampler.get("corrector_rounds", 1) if sampler.get("corrector_share") else 0
        if sampler["num_iterations"] * (1 + rounds) > self.limits.iterations:
            raise ValueError(f"Iterations can be 1 to {self.limits.iterations}.")
        if sampler.get("guide") != self.sampler.guide:
            raise ValueError("These pictures were made with another guide than this app has.")
        self._check_count(count)
        for image in settings.images().values():
            read_picture(image, "The picture", self.limits.megapixels * 1e6)
        settings = dataclasses.replace(settings, arguments=arguments)
        return PictureJob(
            lambda record: settings.pictures(self.pipeline, record),
            Film(self.pipeline.models.autoencoder, count, COLUMNS),
            lambda: settings,
            animates_result=name == "interpolate",
            captions=self._captions(name, arguments, settings.seed, count),
        )

    def reconstruct(self, picture: Image.Image) -> list[Image.Image]:
        """Return the centre square of an image, and its reconstruction by the B-AE."""
        square = self.pipeline.load(picture.convert("RGB"))
        decoded = self.pipeline.decode(self.pipeline.encode(square))
        return [*map(to_pil, square), *map(to_pil, decoded)]

    def _check_count(self, count: int) -> None:
        if count > self.limits.pictures:
            raise ValueError(
                f"{count} pictures: 1 to {self.limits.pictures} can be made at a time."
            )

    def _job(
        self, name: AppName, arguments: dict[str, Any], count: int, mask_schedule: Any, knobs: Knobs
    ) -> PictureJob:
        """Return the job that calls the pipeline's method ``name`` for ``count`` images."""
        self._check_count(count)
        if knobs.num_iterations > self.limits.iterations:
            raise ValueError(f"Iterations can be 1 to {self.limits.iterations}.")
        for key in ("first", "second", "class_name"):
            if arguments.get(key) is not None:
                self.pipeline.class_id(arguments[key])
        for label in arguments.get("classes", []):
            self.pipeline.class_id(label)
        sampler = dataclasses.replace(
            self.sampler,
            mask_schedule=mask_schedule,
            guidance_scale=knobs.guidance_scale,
            num_iterations=knobs.num_iterations,
            gumbel_temperature=knobs.gumbel_temperature,
        )
        method = getattr(self.pipeline, name)

        def describe() -> PictureSettings:
            return PictureSettings(
                application=name,
                arguments=arguments,
                seed=knobs.seed,
                sampler=sampler.to_dict(),
                execution=dataclasses.asdict(self.pipeline.sampler.execution),
                models=self.models,
            )

        return PictureJob(
            lambda record: method(
                **arguments, seed=knobs.seed, sampler=sampler, on_iteration=record
            ),
            Film(self.pipeline.models.autoencoder, count, COLUMNS),
            describe,
            animates_result=name == "interpolate",
            captions=self._captions(name, arguments, knobs.seed, count),
        )

    def _captions(
        self, name: AppName, arguments: dict[str, Any], seed: int, count: int
    ) -> list[str]:
        """Return the class, or the mixture of classes, and the seed of each image."""
        if name == "interpolate":
            one, other = (self._label(arguments[key]) for key in ("first", "second"))
            return [f"{r:.0%} {one}, {1 - r:.0%} {other}, seed {seed}" for r in arguments["ratios"]]
        chosen = [self._label(label) for label in arguments.get("classes", [])]
        given = arguments.get("class_name")
        shown = "" if given is None else f"{self._label(given)}, "
        return [
            f"{chosen[index * len(chosen) // count] + ', ' if chosen else shown}seed {seed + index}"
            for index in range(count)
        ]

    def _label(self, name: ClassName) -> str:
        index, names = self.pipeline.class_id(name), self.pipeline.class_names
        return str(index) if names is None or index >= len(names) else names[index]


def _painted(strokes: Image.Image | None, size: tuple[int, int]) -> Image.Image | None:
    """Return the opaque part of ``strokes`` as a mask of the given size; None if it is empty."""
    if strokes is None:
        return None
    alpha = np.asarray(strokes.convert("RGBA").getchannel("A"))
    if not (alpha > 0).any():
        return None
    full = Image.fromarray((alpha > 0).astype(np.uint8) * 255)
    return full.resize(size, Image.Resampling.NEAREST)
