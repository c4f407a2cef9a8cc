"""The interface of every evaluation, and the context that it receives.

A new evaluation is a class with the methods of :class:`Evaluator` and a YAML file that names it::

    class MeanBrightness:
        is_shared = False

        def check(self, context: EvaluationContext) -> None:
            context.models  # raises if there is no generator

        def num_images(self, context: EvaluationContext) -> int:
            return 10

        def __call__(self, context: EvaluationContext, on_batch: OnBatch) -> Report:
            ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from bigr.checkpoints.identity import weights_sha256
from bigr.checkpoints.load import check_pair, load_autoencoder, load_generator
from bigr.evaluation.report import Report
from bigr.inference.devices import pick_device
from bigr.inference.generate import Models
from bigr.inference.processes import ALONE, Processes
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.pipeline import BiGRPipeline
from bigr.sampling.sampler import Sampler
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig

OnBatch = Callable[[int], object]
"""Called with the number of images that were finished."""
FileState = tuple[tuple[str, int, int], ...]


class LabelledSet(Protocol):
    """A dataset of samples with an ``image`` and a ``label``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@dataclass
class EvaluationContext:
    """The models, data and settings that an evaluation may use.

    Accessing a field that is missing raises ``ValueError``.
    """

    generator: BiGR | None = None
    autoencoder: BinaryAutoencoder | None = None
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    execution: ExecutionConfig = DEFAULT_EXECUTION
    data: Any = None
    """A data module, set up for validation."""
    output: Path = Path()
    """Folder of the results, the same in all processes."""
    processes: Processes = ALONE
    """The processes that share the work, if the evaluation can be shared."""
    device_name: str = "cpu"
    """Device to use if there are no models."""
    title: str = "without a name"
    """What is evaluated, as the user calls it."""

    @property
    def device(self) -> torch.device:
        """Device of the models in this process, or the one to use without models."""
        if self.generator is not None:
            return self.generator.device
        if self.autoencoder is not None:
            return self.autoencoder.last_weight.device
        return pick_device(self.device_name)

    @property
    def codec(self) -> BinaryAutoencoder:
        """The B-AE.

        Raises:
            ValueError: if there is none.
        """
        if self.autoencoder is None:
            raise ValueError("this evaluation needs a B-AE: add autoencoder=… to the command.")
        return self.autoencoder

    @property
    def models(self) -> Models:
        """The generator and its B-AE.

        Raises:
            ValueError: if one is missing, or the generator cannot be sampled with the settings.
        """
        if self.generator is None:
            raise ValueError("this evaluation needs a generator: add generator=… to the command.")
        Sampler(self.sampler, self.execution).check(self.generator)
        return Models(self.generator, self.codec)

    def checksums(self) -> dict[str, str | None]:
        """Return the checksums of the weights of both models; None for a model that is missing."""
        models = {"generator": self.generator, "autoencoder": self.autoencoder}
        return {
            name: None if model is None else weights_sha256(model) for name, model in models.items()
        }

    def pipeline(self, batch_size: int) -> BiGRPipeline:
        """Return a pipeline with these models."""
        return BiGRPipeline(
            *self.models,
            device=str(self.device),
            batch_size=batch_size,
            execution=self.execution,
        )

    @property
    def held_out(self) -> LabelledSet:
        """The validation split.

        Raises:
            ValueError: if there is none, or the size of its images is not that of the B-AE.
        """
        found: LabelledSet | None = getattr(self.data, "val_set", None)
        if found is None:
            raise ValueError("this evaluation needs validation images: choose data=….")
        self.check_image_size()
        return found

    def check_image_size(self) -> None:
        """Raise ``ValueError`` unless the images of the data have the size of those of the B-AE."""
        theirs = getattr(self.data, "image_size", None)
        if self.autoencoder is None or theirs is None:
            return
        ours = self.autoencoder.config.image_size
        if theirs != ours:
            raise ValueError(
                f"the B-AE is for images of {ours} pixels, but data.image_size is {theirs}: choose "
                "another resolution=…."
            )


class Evaluator(Protocol):
    """An evaluation, with its settings as arguments of the constructor."""

    is_shared: ClassVar[bool]
    """Class attribute: whether several processes can share the work. If so, ``__call__`` runs in
    each of them, and returns a report in the first one."""

    def check(self, context: EvaluationContext) -> None:
        """Raise ``ValueError`` if this evaluation is impossible, before any work is done."""

    def num_images(self, context: EvaluationContext) -> int:
        """Return the number of images of all processes, for the progress bar."""

    def __call__(self, context: EvaluationContext, on_batch: OnBatch) -> Report | None:
        """Do the work, and return the report; None in all processes but the first."""


def file_state(path: str) -> FileState:
    """Return the name, size and modification time of a file, or of each file in a folder."""
    place = Path(path).expanduser()
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    found = [(file, file.stat()) for file in files if file.is_file()]
    return tuple((str(file), stat.st_size, stat.st_mtime_ns) for file, stat in found)


def load_context(
    generator: str | None, autoencoder: str | None, device: str, **more: Any
) -> EvaluationContext:
    """Return a context with models from files, which the jobs of a sweep read only once.

    Args:
        generator: path, or None.
        autoencoder: path, or None.
        device: where to put them.
        more: further fields of :class:`EvaluationContext`.

    Raises:
        ValueError: if a file is missing or damaged, or the two do not belong together.
    """
    files: Sequence[str | None] = (generator, autoencoder)
    states = tuple(None if file is None else file_state(file) for file in files)
    models = _models(generator, autoencoder, device, states)
    return EvaluationContext(*models, device_name=device, **more)


@functools.lru_cache(maxsize=1)
def _models(
    generator: str | None,
    autoencoder: str | None,
    device: str,
    _states: tuple[FileState | None, ...],
) -> tuple[BiGR | None, BinaryAutoencoder | None]:
    target = pick_device(device)
    model = None if generator is None else load_generator(generator)
    codec = None if autoencoder is None else load_autoencoder(autoencoder)
    if model is not None and codec is not None:
        check_pair(model, codec)
    return model and model.to(target).eval(), codec and codec.to(target).eval()
