"""The part of a pipeline that all applications share: models, class names, encoding, decoding."""

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
from bigr.checkpoints.load import check_pair
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.data.class_names import default_names, find_class
from bigr.data.image_arrays import to_pil
from bigr.data.user_pictures import Crop, Picture, read_picture
from bigr.inference.devices import load_models, pick_device
from bigr.inference.generate import Models, decode, encode
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.sampling.sampler import Sampler
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig

if TYPE_CHECKING:
    from typing_extensions import Self

ClassName = int | str


class PipelineBase:
    """A generator and its B-AE, with images in and out; see :class:`bigr.BiGRPipeline`."""

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
        self.sampler = Sampler(SamplerConfig(), execution)
        """The sampler of the last call, which is reused while the settings stay the same."""

    @classmethod
    def from_files(
        cls,
        generator: str | os.PathLike[str],
        autoencoder: str | os.PathLike[str],
        *,
        device: str = "auto",
        batch_size: int = 16,
        execution: ExecutionConfig = DEFAULT_EXECUTION,
    ) -> Self:
        """Load a generator and a B-AE from two checkpoints or folders of runs.

        The class names are read from ``classes.txt`` beside the generator, if there is such a file.

        Raises:
            ValueError: if a file is missing or damaged, if the two do not belong together, or if
                the device does not exist.
        """
        place = Path(generator).expanduser()
        names = (place if place.is_dir() else place.parent) / NAMES_FILE
        return cls(
            *load_models(str(generator), str(autoencoder), device),
            class_names=names.read_text().splitlines() if names.is_file() else None,
            device=device,
            batch_size=batch_size,
            execution=execution,
        )

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
        """Load weights from the hub, or from a local folder.

        Args: see :func:`bigr.checkpoints.hub.find_pair`.

        Raises:
            ValueError: if something is missing or damaged, or if the device does not exist.
        """
        pick_device(device)  # before gigabytes are downloaded
        pair = find_pair(name, model=model, code=code, resolution=resolution, revision=revision)
        return cls.from_files(*pair, device=device, batch_size=batch_size, execution=execution)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Write both models, the class names and a model card into ``folder``."""
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
        """Upload what :meth:`save_pretrained` writes, and return the address of the repository."""
        with tempfile.TemporaryDirectory() as folder:
            return push(self.save_pretrained(folder), repo, private=private, message=message)

    @property
    def image_size(self) -> int:
        """Side of the images of the model in pixels."""
        return self.models.autoencoder.config.image_size

    @property
    def grid_size(self) -> int:
        """Number of tokens along a side."""
        return self.models.generator.config.grid_size

    def class_id(self, name: ClassName) -> int:
        """Return the number of a class, or of the null class, given by number or name."""
        num_classes = self.models.generator.config.num_classes
        if name == num_classes:
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

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) in [0, 1] as their most likely codes (B, N, K)."""
        return encode(self.models.autoencoder, images, self.batch_size)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes (B, N, K) into images (B, 3, H, W) in [0, 1]."""
        return decode(self.models.autoencoder, codes, self.batch_size)

    def _prepare(
        self, sampler: SamplerConfig | None, default: SamplerConfig, settings: dict[str, Any]
    ) -> Sampler:
        """Return the sampler for ``sampler`` (or ``default``) with single settings replaced.

        Raises:
            TypeError: if there is no such setting.
            ValueError: if the generator cannot be sampled with these settings.
        """
        for name in settings:
            if name not in SamplerConfig.__dataclass_fields__:
                raise TypeError(f"{name}: there is no such argument, and no such sampler setting.")
        config = sampler or default
        if settings:
            config = dataclasses.replace(config, **settings)
        if config != self.sampler.config:
            self.sampler = Sampler(config, self.sampler.execution)
        self.sampler.check(self.models.generator)
        return self.sampler
