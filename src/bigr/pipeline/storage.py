"""Loading a pipeline from files, a folder or the hub, and saving it."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bigr.checkpoints.card import model_card
from bigr.checkpoints.errors import saving
from bigr.checkpoints.hub import NAMES_FILE, find_pair, push
from bigr.checkpoints.identity import weights_sha256
from bigr.checkpoints.load import WEIGHT_TYPES, load_autoencoder, load_generator
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.data.class_names import read_names
from bigr.inference.devices import pick_device, precision_of
from bigr.inference.generate import Models
from bigr.inference.model_defaults import saved_sampler
from bigr.pipeline.base import PipelineBase
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig

if TYPE_CHECKING:
    from typing_extensions import Self


class StoredPipeline(PipelineBase):
    """The part of :class:`bigr.BiGRPipeline` that reads and writes files."""

    @classmethod
    def from_files(
        cls,
        generator: str | os.PathLike[str],
        autoencoder: str | os.PathLike[str],
        *,
        adapter: str | os.PathLike[str] | None = None,
        device: str = "auto",
        batch_size: int = 16,
        execution: ExecutionConfig = DEFAULT_EXECUTION,
    ) -> Self:
        """Load a generator and a B-AE from two checkpoints or folders of runs.

        The class names are read from ``classes.txt`` next to the generator if there is such a file,
        and otherwise from the checkpoint of the generator. With an adapter, they are its own.

        Args:
            generator: see :func:`bigr.load_generator`.
            autoencoder: see :func:`bigr.load_autoencoder`.
            adapter: folder of a LoRA adapter, or of the run that trained it.
            device: where to compute; ``auto`` takes a GPU if there is one.
            batch_size: number of images that are computed at a time.
            execution: numerical precision, and how the denoising chain is run.

        Raises:
            ValueError: if a file is missing or damaged, if the two do not belong together, or if
                the device does not exist.
        """
        pick_device(device)  # before gigabytes are read
        models = Models(load_generator(generator, adapter=adapter), load_autoencoder(autoencoder))
        place = Path(generator).expanduser()
        file = (place if place.is_dir() else place.parent) / NAMES_FILE
        names = None if adapter else read_names(file, models.generator.config.num_classes)
        return cls(
            *models,
            class_names=names,
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
        adapter: str | os.PathLike[str] | None = None,
        torch_dtype: torch.dtype | None = None,
        device: str = "auto",
        batch_size: int = 16,
        execution: ExecutionConfig = DEFAULT_EXECUTION,
    ) -> Self:
        """Load weights from the hub, from a local folder, or those of an installed model.

        Args:
            name: see :func:`bigr.checkpoints.hub.find_pair`, which also describes the next four.
            model: size of a released model: ``l``, ``xl`` or ``xxl``.
            code: its code: ``d24`` or ``d32``.
            resolution: its resolution: 256 or 512 pixels.
            revision: branch, tag or commit on the hub.
            adapter: folder of a LoRA adapter for the generator, or of the run that trained it.
            torch_dtype: type of the matrix products, as in :meth:`to`; it replaces
                ``execution.precision``.
            device: where to compute; ``auto`` takes a GPU if there is one.
            batch_size: number of images that are computed at a time.
            execution: numerical precision, and how the denoising chain is run.

        Raises:
            ValueError: if something is missing or damaged, or if the device does not exist.
        """
        # Before gigabytes are downloaded.
        pick_device(device)
        if torch_dtype is not None:
            execution = dataclasses.replace(execution, precision=precision_of(torch_dtype))
        pair = find_pair(name, model=model, code=code, resolution=resolution, revision=revision)
        return cls.from_files(
            *pair, adapter=adapter, device=device, batch_size=batch_size, execution=execution
        )

    def save_pretrained(
        self, folder: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32
    ) -> Path:
        """Write both models, their settings and a model card into ``folder``: all or nothing.

        The settings are the class names, the sampler settings of this pipeline, and the identity of
        the B-AE.

        Args:
            folder: created if it does not exist; the files of an earlier model are replaced.
            dtype: type of the numbers in the files. ``torch.bfloat16`` halves their size; they are
                rounded, and loaded as float32.

        Raises:
            ValueError: if ``dtype`` is not a floating-point type of at least 16 bits.
            SaveError: if a file cannot be written; what was in the folder is left as it was.
        """
        if dtype not in WEIGHT_TYPES:
            raise ValueError(
                f"dtype={dtype}: weights are saved as torch.float32, torch.bfloat16 or float16."
            )
        target = Path(folder)
        generator, autoencoder = self.models_to_save(dtype)
        with contextlib.ExitStack() as files:

            def place(name: str) -> Path:
                return files.enter_context(saving(target / name))

            save_generator(generator, place("generator.safetensors"))
            save_autoencoder(autoencoder, place("autoencoder.safetensors"))
            if self.class_names is not None:
                place(NAMES_FILE).write_text("\n".join(self.class_names) + "\n")
            place("README.md").write_text(
                model_card(generator.config, autoencoder.config, generator.settings)
            )
        return target

    def models_to_save(self, dtype: torch.dtype = torch.float32) -> Models:
        """Return both models with the settings of this pipeline, as they are saved.

        Weights are shared with the models of the pipeline unless ``dtype`` is another type.
        """
        generator, autoencoder = self.models
        if dtype != torch.float32:
            generator = copy.deepcopy(generator).to(dtype)
            autoencoder = copy.deepcopy(autoencoder).to(dtype)
        generator = copy.copy(generator)  # only the copy gets the settings
        generator.settings = dataclasses.replace(
            generator.settings,
            class_names=None if self.class_names is None else tuple(self.class_names),
            sampler=saved_sampler(self.sampler_config),
            image_size=self.image_size,
            autoencoder_sha256=weights_sha256(autoencoder),
        )
        return Models(generator, autoencoder)

    def push_to_hub(self, repo: str, *, private: bool = False, message: str = "Upload BiGR") -> str:
        """Upload what :meth:`save_pretrained` writes, and return the address of the repository."""
        with tempfile.TemporaryDirectory() as folder:
            return push(self.save_pretrained(folder), repo, private=private, message=message)
