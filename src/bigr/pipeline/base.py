"""The part of a pipeline that all applications share: models, class names, encoding, decoding."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from bigr.checkpoints.load import check_pair
from bigr.data.class_names import find_class, readable_names
from bigr.data.image_arrays import to_pil
from bigr.data.user_pictures import Crop, Picture, read_picture
from bigr.inference.devices import pick_device, precision_of
from bigr.inference.generate import Models, decode, encode
from bigr.inference.iteration_bar import IterationBar
from bigr.inference.model_defaults import default_sampler
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.pipeline.options import SamplingOptions
from bigr.sampling.conditioning import KnownBits
from bigr.sampling.networks import compute_dtype
from bigr.sampling.random_numbers import image_seeds
from bigr.sampling.sampler import ProgressCallback, Sampler
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig
from bigr.schema import did_you_mean

if TYPE_CHECKING:
    from typing_extensions import Self

ClassName = int | str
DIFFUSERS_NAMES = {
    "callback_on_step_end": "on_iteration",
    "class_labels": "classes",
    "num_images_per_prompt": "num_per_class",
    "num_inference_steps": "num_iterations",
}
"""What the arguments of diffusers are called in all methods except ``__call__``."""
ADVICE = (
    'Single settings are given by name, as in order="random", and those of a preset as '
    '**bigr.presets.load_preset("sampler", "fast").'
)
OTHER_NAMES = ("generator", "num_per_class", "num_variants", "on_iteration", "seed", "seeds")
"""Arguments that are not settings of the sampler, for suggestions in messages."""


class PipelineBase:
    """A generator and its B-AE, with images in and out; see :class:`bigr.BiGRPipeline`."""

    def __init__(
        self,
        generator: BiGR,
        autoencoder: BinaryAutoencoder,
        *,
        class_names: Sequence[str] | None = None,
        sampler: SamplerConfig | None = None,
        device: str = "auto",
        batch_size: int = 16,
        execution: ExecutionConfig = DEFAULT_EXECUTION,
    ) -> None:
        check_pair(generator, autoencoder)
        target = pick_device(device)
        self.models = Models(generator.to(target).eval(), autoencoder.to(target).eval())
        num_classes = generator.config.num_classes
        names = class_names or generator.settings.class_names
        self.class_names = readable_names(names, num_classes)
        if self.class_names is not None and len(self.class_names) != num_classes:
            raise ValueError(
                f"{len(self.class_names)} class_names for a generator of {num_classes} classes."
            )
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}.")
        self.batch_size = batch_size
        self.sampler_config = sampler or default_sampler(generator.config, generator.settings)
        """The settings of calls that give no ``sampler``."""
        self.sampler = Sampler(self.sampler_config, execution)
        """The sampler of the last call, which is reused while the settings stay the same."""
        self.progress_bar_config: dict[str, Any] = {}
        """Arguments of the progress bar; see :meth:`set_progress_bar_config`."""

    def __repr__(self) -> str:
        config = self.models.generator.config
        millions = [sum(p.numel() for p in model.parameters()) / 1e6 for model in self.models]
        names = self.class_names
        shown = "" if names is None else f" ({names[0]}, …, {names[-1]})"
        return (
            f"{type(self).__name__}(\n"
            f"  generator: {millions[0]:.3g} M parameters, {config.num_classes} classes{shown},\n"
            f"  autoencoder: {millions[1]:.3g} M parameters, {self.image_size}x{self.image_size} "
            f"pixels from {config.grid_size}x{config.grid_size} tokens of {config.code_dim} bits,\n"
            f"  sampler: {self.sampler_config},\n"
            f"  device: {self.device}, {self.dtype}, batches of {self.batch_size}\n)"
        )

    @property
    def device(self) -> torch.device:
        """Where both models are and compute."""
        return self.models.generator.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the matrix products while sampling; the weights themselves are float32."""
        dim = self.models.generator.config.dim
        return compute_dtype(self.sampler.execution.precision, self.device, dim)

    def to(
        self,
        *places: str | torch.device | torch.dtype,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Move both models to a device, or compute in another precision, and return the pipeline.

        Args:
            places: a device, a type, or both, as in ``pipeline.to("cuda", torch.bfloat16)``.
            device: a device such as ``cpu``, ``cuda:1`` or ``auto``.
            dtype: type of the matrix products. The weights remain float32, and are rounded where
                they are used. ``torch.float16`` means bfloat16, which needs as much memory and
                cannot overflow.

        Raises:
            ValueError: if the device does not exist, or the type is another one.
        """
        for place in places:
            if isinstance(place, torch.dtype):
                dtype = place
            else:
                device = place
        # 1. Both are checked before anything changes.
        target = self.device if device is None else pick_device(str(device))
        execution = self.sampler.execution
        if dtype is not None:
            execution = dataclasses.replace(execution, precision=precision_of(dtype))
        # 2. Move the models in place. The sampler keeps the weights in the form that it needs, so
        # that another one is needed for another precision.
        for model in self.models:
            model.to(target)
        if execution != self.sampler.execution:
            self.sampler = Sampler(self.sampler.config, execution)
        return self

    def set_progress_bar_config(self, **config: Any) -> None:
        """Set the arguments of the progress bar, which are those of :class:`tqdm.tqdm`.

        The bar counts the iterations of the sampler. ``pipeline(…)`` shows it unless it is turned
        off with ``disable=True``; all other methods show it after ``disable=False``.
        """
        self.progress_bar_config = config

    @property
    def image_size(self) -> int:
        """Side of the images of the model in pixels."""
        return self.models.autoencoder.config.image_size

    @property
    def grid_size(self) -> int:
        """Number of tokens along a side."""
        return self.models.generator.config.grid_size

    def class_id(self, name: ClassName | None) -> int:
        """Return the number of a class given by number or name; None is the null class.

        Raises:
            ValueError: if there is no such class; the message suggests similar names.
        """
        num_classes = self.models.generator.config.num_classes
        if name is None or name == num_classes:
            return num_classes
        return find_class(name, num_classes, self.class_names)

    def reconstruct(self, images: Picture | Sequence[Picture]) -> list[Image.Image]:
        """Encode images into bits and decode them again."""
        return list(map(to_pil, self.decode(self.encode(self.load(images)))))

    @torch.inference_mode()
    def features(self, images: Picture | Sequence[Picture], layer: int) -> Tensor:
        """Return the features of every token after ``layer`` (0-based), (B, N, D) on the CPU."""
        model = self.models.generator
        parts = self.encode(self.load(images)).split(self.batch_size)
        null = model.config.null_class
        classes = [torch.full((len(codes),), null, device=codes.device) for codes in parts]
        return torch.cat(
            [
                model.features(*pair, layer).float().cpu()
                for pair in zip(parts, classes, strict=True)
            ]
        )

    def load(self, images: Picture | Sequence[Picture]) -> Tensor:
        """Return the centre squares of images, as ADM crops them, (B, 3, H, W) in [0, 1]."""
        if isinstance(images, Tensor) and images.ndim == 4:
            images = list(images)
        some: Sequence[Any] = images if isinstance(images, list | tuple) else [images]
        crops = [Crop(read_picture(one).convert("RGB"), self.image_size) for one in some]
        return torch.stack([crop.image() for crop in crops])

    def encode(self, images: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
        """Encode images (B, 3, H, W) in [0, 1] as codes (B, N, K).

        Args:
            images: images at the resolution of the model.
            seeds: V for each image, which draw the bits of V codes; they are (B * V, N, K), image
                by image. None takes the more likely value of each bit.
        """
        return encode(self.models.autoencoder, images, self.batch_size, seeds)

    def encode_known(self, images: Tensor, seeds: Sequence[int], known_bits: KnownBits) -> Tensor:
        """Encode images for results with the given seeds, V for each image: (B * V, N, K)."""
        if known_bits == "drawn":
            return self.encode(images, seeds)
        return self.encode(images).repeat_interleave(len(seeds) // len(images), dim=0)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes (B, N, K) into images (B, 3, H, W) in [0, 1]."""
        return decode(self.models.autoencoder, codes, self.batch_size)

    def _prepare(
        self,
        count: int,
        seed: int | None,
        sampler: SamplerConfig | None,
        changes: Mapping[str, Any],
        options: SamplingOptions,
    ) -> tuple[Sampler, list[int]]:
        """Return the sampler of a call and the seeds of its images.

        Args:
            count: number of seeds.
            seed: the seed of the first image, if the options do not say otherwise; the next images
                have the next numbers. None draws the seeds from torch's global generator.
            sampler: settings; None takes those of the model with the ``changes``.
            changes: what an application changes in the settings of the model.
            options: seeds and single settings, which replace the others.

        Raises:
            TypeError: if there is no such option.
            ValueError: if a value is not valid, or the generator cannot be sampled with it.
        """
        # 1. The options that were given.
        known, settings = SamplerConfig.__dataclass_fields__, dict[str, Any]()
        for name, value in options.items():
            if name not in known and name not in ("seeds", "generator"):
                hint = did_you_mean(name, [*known, *OTHER_NAMES])
                if name in DIFFUSERS_NAMES:
                    hint = f" It is called {DIFFUSERS_NAMES[name]} here."
                raise TypeError(
                    f"{name}: there is no such argument, and no such sampler setting.{hint}"
                )
            if value is not None:
                settings[name] = value
        # 2. The seeds.
        generator, seeds = settings.pop("generator", None), settings.pop("seeds", None)
        if seeds is None and generator is None and seed is not None:
            if not isinstance(seed, int):
                raise TypeError(f"seed must be an integer, got {seed!r}.")
            seeds = range(seed, seed + count)
        numbers: list[int] = image_seeds(count, generator=generator, seeds=seeds).tolist()
        # 3. The settings.
        if not isinstance(sampler, SamplerConfig | None):
            raise TypeError(f"sampler must be a bigr.SamplerConfig, got {sampler!r}. {ADVICE}")
        config, replaced = (
            (sampler, settings) if sampler else (self.sampler_config, {**changes, **settings})
        )
        if replaced:
            config = dataclasses.replace(config, **replaced)
        if config != self.sampler.config:
            self.sampler = Sampler(config, self.sampler.execution)
        self.sampler.check(self.models.generator)
        return self.sampler, numbers

    def _with_bar(
        self,
        on_iteration: ProgressCallback | None,
        count: int,
        repetitions: int = 1,
        *,
        is_default: bool = False,
    ) -> ProgressCallback | None:
        """Return ``on_iteration``, with a progress bar of the sampler's iterations if one is shown.

        Args:
            on_iteration: what the caller wants to be called.
            count: number of images to sample, which are divided into batches.
            repetitions: how often each of them is sampled.
            is_default: whether the bar is shown unless the user has turned it off.
        """
        if self.progress_bar_config.get("disable", not is_default):
            return on_iteration
        num_batches = math.ceil(count / self.batch_size) * repetitions
        model = self.models.generator.config
        is_causal, iterations = model.attention == "causal", self.sampler.config.num_iterations
        total = num_batches * (model.seq_len if is_causal else iterations)
        return IterationBar(total, self.progress_bar_config, on_iteration)
