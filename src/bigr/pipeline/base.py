"""What all applications of a pipeline share: models, names, pictures to codes and back."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from bigr.checkpoints.card import model_card
from bigr.checkpoints.hub import NAMES_FILE, find_pair, push
from bigr.checkpoints.load import check_pair, load_autoencoder, load_generator
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.data.class_names import default_names, find_class
from bigr.data.image_arrays import to_uint8
from bigr.data.user_pictures import Crop, Picture, read_picture
from bigr.inference.devices import check_sampler, pick_device
from bigr.inference.generate import Models, decode, encode, generate
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.sampling.conditioning import (
    null_classes,
)
from bigr.sampling.sampler import ProgressCallback
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig

if TYPE_CHECKING:
    from typing_extensions import Self

ClassName = int | str


class PipelineBase:
    """A generator and its B-AE, with pictures in and out; see :class:`bigr.BiGRPipeline`."""

    def __init__(
        self,
        generator: BiGR,
        autoencoder: BinaryAutoencoder,
        *,
        class_names: Sequence[str] | None = None,
        device: str = "auto",
        batch_size: int = 16,
        execution: ExecutionConfig = DEFAULT_EXECUTION,
    ) -> None:
        check_pair(generator, autoencoder)
        target = pick_device(device)
        self.models = Models(generator.to(target).eval(), autoencoder.to(target).eval())
        num_classes = generator.config.num_classes
        self.class_names = list(class_names) if class_names else default_names(num_classes)
        if self.class_names is not None and len(self.class_names) != num_classes:
            raise ValueError(
                f"{len(self.class_names)} class_names for a generator of {num_classes} classes."
            )
        self.batch_size = batch_size
        self.execution = execution

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str] = "haoosz/BiGR",
        *,
        model: str = "l",
        code: str = "d24",
        resolution: int = 256,
        revision: str | None = None,
        device: str = "auto",
        batch_size: int = 16,
        execution: ExecutionConfig = DEFAULT_EXECUTION,
    ) -> Self:
        """Weights from the hub, a local copy of the released layout, or a folder made here.

        Args: see :func:`bigr.checkpoints.hub.find_pair`.

        Raises:
            ValueError: if something is missing or damaged, or for a device that isn't there.
        """
        pick_device(device)  # before gigabytes are fetched
        pair = find_pair(name, model=model, code=code, resolution=resolution, revision=revision)
        names_file = pair.generator.with_name(NAMES_FILE)
        names = names_file.read_text().splitlines() if names_file.is_file() else None
        return cls(
            load_generator(pair.generator),
            load_autoencoder(pair.autoencoder),
            class_names=names,
            device=device,
            batch_size=batch_size,
            execution=execution,
        )

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Write both models, the names of the classes and a model card."""
        target = Path(folder)
        save_generator(self.models.generator, target / "generator.safetensors")
        save_autoencoder(self.models.autoencoder, target / "autoencoder.safetensors")
        if self.class_names is not None:
            (target / NAMES_FILE).write_text("\n".join(self.class_names) + "\n")
        (target / "README.md").write_text(
            model_card(self.models.generator.config, self.models.autoencoder.config)
        )
        return target

    def push_to_hub(self, repo: str, *, private: bool = False, message: str = "Upload BiGR") -> str:
        """Upload what :meth:`save_pretrained` writes; returns the repository's address."""
        with tempfile.TemporaryDirectory() as folder:
            return push(self.save_pretrained(folder), repo, private=private, message=message)

    @property
    def image_size(self) -> int:
        """Side of the model's pictures in pixels."""
        return self.models.autoencoder.config.image_size

    @property
    def grid_size(self) -> int:
        """Tokens along a side."""
        return self.models.generator.config.grid_size

    def class_id(self, name: ClassName) -> int:
        """The number of a class given by number or name."""
        return find_class(name, self.models.generator.config.num_classes, self.class_names)

    def reconstruct(self, images: Picture | Sequence[Picture]) -> list[Image.Image]:
        """Pictures as the B-AE gives them back: encoded into bits and decoded."""
        return to_pil(self.decode(self.encode(self.load(images))))

    @torch.inference_mode()
    def features(self, images: Picture | Sequence[Picture], layer: int) -> Tensor:
        """Visual features of every token after ``layer`` (0-based): (B, N, D), on the CPU."""
        codes = self.encode(self.load(images))
        classes = self._classes(None, len(codes)).to(codes.device)
        parts = zip(codes.split(self.batch_size), classes.split(self.batch_size), strict=True)
        model = self.models.generator
        return torch.cat([model.features(*part, layer).float().cpu() for part in parts])

    def load(self, images: Picture | Sequence[Picture]) -> Tensor:
        """ADM's centre crops of pictures, (B, 3, H, W) in [0, 1]."""
        if isinstance(images, Tensor) and images.ndim == 4:
            images = list(images)
        some: Sequence[Any] = images if isinstance(images, list | tuple) else [images]
        crops = [Crop(read_picture(one).convert("RGB"), self.image_size) for one in some]
        return torch.stack([crop.image() for crop in crops])

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to their likeliest codes (B, N, K)."""
        return encode(self.models.autoencoder, images, self.batch_size)

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, N, K) to images (B, 3, H, W) in [0, 1]."""
        return decode(self.models.autoencoder, codes, self.batch_size)

    def _sample(
        self,
        classes: Tensor,
        config: SamplerConfig,
        *,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        on_iteration: ProgressCallback | None = None,
        known_codes: Tensor | None = None,
        is_masked: Tensor | None = None,
    ) -> list[Image.Image]:
        check_sampler(self.models, config, self.execution)
        images = generate(
            self.models,
            config,
            classes,
            execution=self.execution,
            seed=seed,
            seeds=seeds,
            batch_size=self.batch_size,
            known_codes=known_codes,
            is_masked=is_masked,
            on_iteration=on_iteration,
        )
        return to_pil(images)

    def _classes(self, name: ClassName | None, count: int) -> Tensor:
        if name is None:
            return null_classes(count, self.models.generator.config.null_class)
        return torch.full((count,), self.class_id(name))

    def _settings(
        self,
        sampler: SamplerConfig | None,
        default: SamplerConfig,
        settings: dict[str, Any],
    ) -> SamplerConfig:
        known = {field.name for field in dataclasses.fields(SamplerConfig)}
        for name in settings:
            if name not in known:
                raise TypeError(f"{name}: there is no such argument, nor a sampler's setting.")
        return dataclasses.replace(sampler or default, **settings)


def to_pil(images: Tensor) -> list[Image.Image]:
    """Images (B, 3, H, W) in [0, 1] as PIL images."""
    arrays = to_uint8(images).cpu().permute(0, 2, 3, 1).contiguous().numpy()
    return [Image.fromarray(array) for array in arrays]
