"""The actions behind the buttons of the app, which check their input and are free of Gradio."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge
from PIL import Image

from bigr.app.canvas import painted_mask
from bigr.app.limits import MAX_ROUNDS, Knobs, Limits
from bigr.app.steps import CANVAS_SIDE, COLUMNS, PictureJob, ReconstructionJob
from bigr.data.examples import example_pictures
from bigr.data.files import check_regular
from bigr.data.image_arrays import to_pil
from bigr.data.user_pictures import read_picture
from bigr.inference.preview import Film
from bigr.pipeline import BiGRPipeline, Blend, ClassName
from bigr.pipeline.picture_settings import AppName, PictureSettings, model_digests
from bigr.presets import load_preset, preset_names
from bigr.sampling.conditioning import CELL, ENRICHMENT, INPAINTING, INTERPOLATION_RATIOS
from bigr.sampling.sampler import ProgressCallback
from bigr.sampling.sampler_config import SamplerConfig
from bigr.schema import NonNegativeInt, PositiveInt, checked

WHATEVER = -1
"""The value of the entry for no class in menus."""
ENRICHMENT_ROUNDS = 4
"""Default of the pipeline's ``num_rounds``."""
MaskScheduleName = Literal["cosine", "linear"]
ClassChoice = Annotated[int, Ge(WHATEVER)]
MODEL_PRESET = "model"
"""Name of the preset with the settings that the app was started with, by default the model's."""
RELATIVE_PRESETS = ("best", "fast", "draft")
"""Presets that change some of the model's own settings."""
OTHER_PRESETS = ("model", "inpaint", "interpolate", "enrich", "claims")
"""Presets that are not offered: those of applications, which are incomplete, and ``claims``."""


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
    def presets(self) -> dict[str, SamplerConfig]:
        """The presets that the limits allow, by name, beginning with that of the model."""
        not_whole = (*RELATIVE_PRESETS, *OTHER_PRESETS)
        others = (name for name in preset_names("sampler") if name not in not_whole)
        found = {MODEL_PRESET: self.sampler}
        for name in RELATIVE_PRESETS:
            found[name] = dataclasses.replace(self.sampler, **load_preset("sampler", name))
        found |= {name: SamplerConfig.preset(name) for name in others}
        most = self.limits.iterations
        return {name: one for name, one in found.items() if one.num_iterations <= most}

    @functools.cached_property
    def models(self) -> dict[str, str]:
        """The name of the model, and the checksums of the weights."""
        return {"name": self.name, **model_digests(self.pipeline)}

    @property
    def class_choices(self) -> list[tuple[str, int]]:
        """The entries of class menus, each with its text and the number of the class."""
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

    @checked
    def generate(
        self, classes: Sequence[NonNegativeInt], num_per_class: PositiveInt, knobs: Knobs
    ) -> PictureJob:
        """Generate images of the chosen classes."""
        if not classes:
            raise ValueError("Choose at least one class.")
        arguments = {"classes": list(classes), "num_per_class": num_per_class}
        return self._job("generate", arguments, knobs)

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
        mask = painted_mask(strokes, picture.size)
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
        return self._job(name, arguments, knobs, INPAINTING["mask_schedule"])

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
        return self._job("interpolate", arguments, knobs)

    @checked
    def enrich(
        self, path: str | None, class_id: ClassChoice, num_variants: PositiveInt, knobs: Knobs
    ) -> PictureJob:
        """Add details to a small image."""
        label = None if class_id == WHATEVER else class_id
        arguments = {"image": self.open(path), "class_name": label, "num_variants": num_variants}
        return self._job("enrich", arguments, knobs, ENRICHMENT["mask_schedule"])

    def reproduce(self, path: str | None) -> PictureJob:
        """Make the pictures of a ZIP, PNG or ``settings.json`` of the app again.

        Raises:
            ValueError: see :meth:`settings`.
        """
        settings = self.settings(path)
        return self._picture_job(
            settings.application,
            settings.arguments,
            settings.seed,
            lambda record: settings.pictures(self.pipeline, record),
            lambda: settings,
        )

    def settings(self, path: str | None) -> PictureSettings:
        """Read a ZIP, PNG or ``settings.json`` of the app; its classes become numbers in a list.

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
        arguments, name = dict(settings.arguments), settings.application
        if name == "generate":
            classes = arguments.get("classes")
            arguments["classes"] = classes if isinstance(classes, list) else [classes]
        elif name == "interpolate" and not arguments.get("ratios"):
            arguments["ratios"] = list(INTERPOLATION_RATIOS)
        # The limits of a request.
        if arguments.get("num_rounds", 1) > MAX_ROUNDS or arguments.get("return_rounds"):
            raise ValueError(f"num_rounds can be 1 to {MAX_ROUNDS} here, without return_rounds.")
        self._check_iterations(settings.sampler)
        if settings.sampler.get("guide") != self.sampler.guide:
            raise ValueError("These pictures were made with a guide that this app does not use.")
        self._check_count(_count(name, arguments))
        for image in settings.images().values():
            read_picture(image, "The picture", self.limits.megapixels * 1e6)
        return dataclasses.replace(settings, arguments=arguments)

    def reconstruct(self, path: str | None) -> ReconstructionJob:
        """Compare the centre square of an image with its reconstruction by the B-AE."""
        picture = self.open(path)

        def call() -> list[Image.Image]:
            square = self.pipeline.load(picture.convert("RGB"))
            decoded = self.pipeline.decode(self.pipeline.encode(square))
            return [*map(to_pil, square), *map(to_pil, decoded)]

        return ReconstructionJob(call)

    def _check_count(self, count: int) -> None:
        if count > self.limits.pictures:
            raise ValueError(
                f"{count} pictures cannot be made at a time, only 1 to {self.limits.pictures}."
            )

    def _check_iterations(self, sampler: dict[str, Any]) -> None:
        rounds = sampler.get("corrector_rounds", 1) if sampler.get("corrector_share") else 0
        if sampler["num_iterations"] * (1 + rounds) > self.limits.iterations:
            raise ValueError(f"The number of iterations can be 1 to {self.limits.iterations}.")

    def _job(
        self,
        name: AppName,
        arguments: dict[str, Any],
        knobs: Knobs,
        mask_schedule: MaskScheduleName | None = None,
    ) -> PictureJob:
        """Return the job that calls the pipeline's method ``name``."""
        self._check_count(_count(name, arguments))
        for key in ("first", "second", "class_name"):
            if arguments.get(key) is not None:
                self.pipeline.class_id(arguments[key])
        for label in arguments.get("classes", []):
            self.pipeline.class_id(label)
        base = knobs.base or self.sampler
        sampler = dataclasses.replace(
            base,
            mask_schedule=base.mask_schedule if mask_schedule is None else mask_schedule,
            guidance_scale=knobs.guidance_scale,
            num_iterations=knobs.num_iterations,
            gumbel_temperature=knobs.gumbel_temperature,
        )
        self._check_iterations(vars(sampler))
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

        def call(record: ProgressCallback) -> list[Image.Image]:
            made: list[Image.Image] = method(
                **arguments, seed=knobs.seed, sampler=sampler, on_iteration=record
            )
            return made

        return self._picture_job(name, arguments, knobs.seed, call, describe)

    def _picture_job(
        self,
        name: AppName,
        arguments: dict[str, Any],
        seed: int,
        call: Callable[[ProgressCallback], list[Image.Image]],
        describe: Callable[[], PictureSettings],
    ) -> PictureJob:
        count, is_enrichment = _count(name, arguments), name == "enrich"
        return PictureJob(
            call,
            Film(self.pipeline.models.autoencoder, count, COLUMNS),
            describe,
            animates_result=name == "interpolate",
            captions=self._captions(name, arguments, seed, count),
            passes=CELL * arguments.get("num_rounds", ENRICHMENT_ROUNDS) if is_enrichment else 1,
            before=arguments.get("image"),
            keeps_finished=name in ("generate", "interpolate"),
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


def _count(name: AppName, arguments: dict[str, Any]) -> int:
    """Return the number of images that the pipeline's method ``name`` makes."""
    if name == "generate":
        return len(arguments["classes"]) * int(arguments.get("num_per_class", 1))
    return len(arguments["ratios"]) if name == "interpolate" else arguments.get("num_variants", 1)
