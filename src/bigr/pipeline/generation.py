"""Generating images of classes, with the arguments of this project or those of diffusers."""

from __future__ import annotations

import itertools
import logging
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bigr.data.class_names import synonyms
from bigr.data.image_arrays import to_pil
from bigr.inference.generate import Generated, generate_batches
from bigr.pipeline.base import ClassName
from bigr.pipeline.options import SamplingOptions, SingleSettings, with_options
from bigr.pipeline.repainting import RepaintingPipeline
from bigr.sampling.sampler import Progress, ProgressCallback
from bigr.sampling.sampler_config import SamplerConfig
from bigr.schema import MILLION, ImageCount, did_you_mean

if TYPE_CHECKING:
    from typing_extensions import Unpack

log = logging.getLogger(__name__)

Classes = ClassName | Sequence[ClassName | None] | None
OutputType = Literal["pil", "pt", "np"]
OUTPUT_TYPES = ("pil", "pt", "np")
STEP_TENSORS = ("codes", "is_masked", "confidence")
"""Fields of :class:`bigr.sampling.sampler.Progress` that ``callback_on_step_end`` can receive."""
StepCallback = Callable[[Any, int, int, dict[str, Any]], Mapping[str, Any] | None]


class GeneratedPicture(NamedTuple):
    """An image of a class, with the class and the seed that it was generated from."""

    class_id: int
    seed: int
    picture: Image.Image


class PipelineOutput(NamedTuple):
    """What calling a pipeline returns."""

    images: list[Image.Image] | Tensor | np.ndarray
    """PIL images, or (B, 3, H, W) or (B, H, W, 3) float32 in [0, 1]."""
    seeds: list[int]
    """The seed of each image, with which ``generate`` makes the same image again."""


class SchedulerStandIn:
    """Stands in for the noise scheduler of a diffusers pipeline, which BiGR does not have."""

    config: Mapping[str, Any] = {}


class GeneratingPipeline(RepaintingPipeline):
    """The part of :class:`bigr.BiGRPipeline` that generates images of classes."""

    @with_options
    def generate(
        self, classes: Classes, *, num_per_class: ImageCount = 1,
        seed: int = 0, sampler: SamplerConfig | None = None,
        on_iteration: ProgressCallback | None = None, **options: Unpack[SamplingOptions],
    ) -> list[Image.Image]:  # fmt: skip
        """Generate ``num_per_class`` images of each class, class by class.

        Args:
            classes: numbers or names of classes; None, or the number of classes, stands for the
                null class, with which images are generated unconditionally.
            num_per_class: number of images of each class.
            seed: seed of the first image; image i has seed ``seed + i``.
            sampler: settings; by default those of the model.
            on_iteration: see the class.
            options: ``seeds`` or ``generator`` instead of ``seed``, and single settings of the
                sampler to replace; see :class:`bigr.pipeline.options.SamplingOptions`.

        Raises:
            ValueError: if a class is unknown or settings do not fit; before sampling begins.
        """
        _, _, batches = self._sample(
            classes, num_per_class, seed, sampler, on_iteration, options, is_shown=False
        )
        images = map(operator.attrgetter("images"), batches)
        return list(map(to_pil, itertools.chain.from_iterable(images)))

    @with_options
    def stream(
        self, classes: Classes, *, num_per_class: ImageCount = 1,
        seed: int = 0, sampler: SamplerConfig | None = None,
        on_iteration: ProgressCallback | None = None, share: tuple[int, int] = (0, 1),
        **options: Unpack[SamplingOptions],
    ) -> Iterator[GeneratedPicture]:  # fmt: skip
        """Return an iterator over the images of :meth:`generate`, which samples as it advances.

        Args:
            classes: see :meth:`generate`, which also describes the other arguments.
            share: (rank, count) of this process among those that share the work; see
                :func:`bigr.inference.generate.generate_batches`.
        """
        labels, seeds, batches = self._sample(
            classes, num_per_class, seed, sampler, on_iteration, options, is_shown=False,
            share=share,
        )  # fmt: skip
        return (
            GeneratedPicture(int(labels[index]), seeds[index], picture)
            for batch in batches
            for index, picture in zip(batch.indices, map(to_pil, batch.images), strict=True)
        )

    @with_options
    def __call__(
        self, class_labels: Classes | Tensor = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_inference_steps: int | None = None, output_type: OutputType = "pil",
        return_dict: bool = True, *, seeds: Sequence[int] | Tensor | None = None,
        sampler: SamplerConfig | None = None,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("codes",),
        **settings: Unpack[SingleSettings],
    ) -> PipelineOutput | tuple[Any]:  # fmt: skip
        """Generate an image of each class, with the arguments of a pipeline of diffusers.

        Args:
            class_labels: numbers or names of classes; None generates an image unconditionally.
            guidance_scale: scale of classifier-free guidance; by default that of the model.
            generator: one generator, which draws a seed in 0..2^62 - 1 for each image in turn, or
                one generator for each image, which draws its seed. Without it, and without
                ``seeds``, torch's global generator draws the seeds.
            num_inference_steps: number of iterations of the sampler, which this project calls
                ``num_iterations``; by default that of the model.
            output_type: ``pil`` for PIL images, ``pt`` for a tensor (B, 3, H, W) and ``np`` for an
                array (B, H, W, 3), both float32 in [0, 1].
            return_dict: return a :class:`PipelineOutput` instead of the tuple ``(images,)``.
            seeds: one seed for each image, instead of ``generator``.
            sampler: settings; by default those of the model.
            callback_on_step_end: function that is called after each iteration of each batch with
                the pipeline, the number of the iteration from 0, the number of masked tokens that
                are left in the batch, and a dictionary with the tensors that were asked for. Its
                result is ignored. To stop early, raise an exception.
            callback_on_step_end_tensor_inputs: names of these tensors: ``codes``, ``is_masked`` and
                ``confidence``, as :class:`bigr.sampling.sampler.Progress` describes them.
            settings: single settings of the sampler to replace.

        Raises:
            ValueError: if a class is unknown or settings do not fit; before sampling begins.
        """
        # 1. Check and translate the arguments.
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type={output_type!r}: it must be one of pil, pt and np.")
        for name in callback_on_step_end_tensor_inputs:
            if name not in STEP_TENSORS:
                hint = did_you_mean(name, STEP_TENSORS) or f" There are {', '.join(STEP_TENSORS)}."
                raise ValueError(
                    f"callback_on_step_end_tensor_inputs: there is no tensor {name}.{hint}"
                )
        if num_inference_steps is not None:
            if settings.get("num_iterations") is not None:
                raise ValueError(
                    "num_inference_steps and num_iterations are the same: leave out one of them."
                )
            settings["num_iterations"] = num_inference_steps
        options: SamplingOptions = {
            **settings, "guidance_scale": guidance_scale, "generator": generator, "seeds": seeds
        }  # fmt: skip
        classes: Any = class_labels.tolist() if isinstance(class_labels, Tensor) else class_labels

        def step_end(state: Progress) -> None:
            tensors = {name: getattr(state, name) for name in callback_on_step_end_tensor_inputs}
            if callback_on_step_end is not None:
                left = int(state.is_masked.sum())
                callback_on_step_end(self, state.iteration - 1, left, tensors)

        # 2. Sample, and return the images in the form that was asked for.
        on_iteration = None if callback_on_step_end is None else step_end
        _, seeds, batches = self._sample(
            classes, 1, None, sampler, on_iteration, options, is_shown=True
        )
        found = torch.cat([batch.images for batch in batches])
        images: Any = found
        if output_type == "pil":
            images = list(map(to_pil, found))
        elif output_type == "np":
            images = found.permute(0, 2, 3, 1).numpy()
        return PipelineOutput(images, seeds) if return_dict else (images,)

    @property
    def labels(self) -> dict[str, int]:
        """The number of each class by its names, sorted; names that several classes have are left
        out. Without names, the numbers as text."""
        names = self.class_names
        if names is None:
            return {str(index): index for index in range(self.models.generator.config.num_classes)}
        return dict(sorted(synonyms(names).items()))

    def get_label_ids(self, label: str | Sequence[str]) -> list[int]:
        """Return the numbers of classes given by name.

        Raises:
            ValueError: if there is no such class; the message suggests similar names.
        """
        return list(map(self.class_id, [label] if isinstance(label, str) else label))

    @property
    def scheduler(self) -> SchedulerStandIn:
        """An object without settings, for scripts that replace the scheduler of a pipeline.

        BiGR has no noise scheduler. Assigning one changes nothing, and logs a warning.
        """
        return SchedulerStandIn()

    @scheduler.setter
    def scheduler(self, scheduler: object) -> None:
        log.warning(
            "BiGR has no noise scheduler, so assigning a %s has no effect. Pass sampler=… or "
            "single settings, such as num_inference_steps, when you call the pipeline.",
            type(scheduler).__name__,
        )

    def _sample(
        self,
        classes: Classes,
        num_per_class: int,
        seed: int | None,
        sampler: SamplerConfig | None,
        on_iteration: ProgressCallback | None,
        options: SamplingOptions,
        *,
        is_shown: bool,
        share: tuple[int, int] = (0, 1),
    ) -> tuple[Tensor, list[int], Iterator[Generated]]:
        """Return the class and the seed of each image, and an iterator over the batches."""
        names = [classes] if isinstance(classes, int | float | str | None) else list(classes)
        if not names:
            raise ValueError("classes is empty: give at least one class.")
        if not (isinstance(num_per_class, int) and 1 <= len(names) * num_per_class <= MILLION):
            raise ValueError(
                f"num_per_class must be a positive integer, for at most {MILLION:,} images in one "
                f"call, got {num_per_class!r}."
            )
        ids = torch.tensor(list(map(self.class_id, names)))
        labels = ids.repeat_interleave(num_per_class)
        prepared, seeds = self._prepare(len(labels), seed, sampler, {}, options)
        on_iteration = self._with_bar(on_iteration, len(labels), is_default=is_shown)
        return labels, seeds, generate_batches(
            self.models, prepared, labels, seeds=seeds, share=share, batch_size=self.batch_size,
            on_iteration=on_iteration,
        )  # fmt: skip
