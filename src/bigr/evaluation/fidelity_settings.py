"""Settings of a comparison of images with real ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Literal

from annotated_types import Ge, Le

from bigr.evaluation.fidelity_names import TITLES
from bigr.evaluation.stored_images import Split
from bigr.schema import NOT_HUGE, Check, NonNegativeInt, PositiveInt, check_fields

FULL_COUNT = 50_000
NUM_DIVISIONS = 199
MAX_REPEATS = 1000
"""Number of random divisions in a comparison of two sets."""


def _word(text: str) -> str:
    """Return ``text``, and raise ``ValueError`` unless it can begin the name of a score."""
    if not text.isidentifier():
        raise ValueError("it must be a word of letters, digits and underscores")
    return text


@dataclasses.dataclass(kw_only=True)
class FidelitySettings:
    """Settings of a comparison of generated images, or of images in files, with a reference.

    Args:
        reference: ADM's ``.npz``, one that was written here, or images: a folder, an ``.npz`` with
            an array ``arr_0``, or ``digits``.
        reference_split: split of a folder that has several, or its images with even or odd numbers,
            see :data:`bigr.evaluation.stored_images.Split`.
        reference_count: number of images that the reference must be made of; None accepts any.
        samples: images to compare, in any form of ``reference`` except statistics; None generates
            them.
        samples_split: the same for a folder of samples.
        training: images that the generator was trained on, in any form of ``samples``: the report
            shows samples next to the nearest of them, and ``network=own`` learns their classes.
            None takes the images of the reference for both.
        against: other images; the report says whether they differ from the samples by more than
            chance.
        image_size: side of the square to which samples in a folder are cropped, as ADM does; None
            expects squares of one size.
        network: ``inception``; ``digits`` for a small classifier of digits; ``own`` for one that is
            trained on the classes of the reference or of ``training``; ``dinov2``; or a network of
            the package timm.
        network_name: name of the classifier of ``network=own``, with which its scores begin.
        network_steps: largest number of training steps of ``network=own``.
        weights: file of the network's weights; None looks in torch's hub cache.
        weights_sha256: beginning of the checksum that the weights of a network of timm must have.
        inception_file: the same as ``weights``, for Inception only.
        count: number of images; None takes all samples, or generates 50,000.
        labels: ``balanced`` or ``random``; see :func:`bigr.inference.generate.class_labels`.
        batch_size: images at a time on each device; it does not change them.
        chunk_size: images per file of features; an interruption loses at most this many.
        seed: seed of the first image; image i uses ``seed + i``.
        repeats: number of times that ``count`` images are generated and compared, with new seeds
            each time; at most 1,000.
        resamples: random parts from which it is estimated how much the figures vary by chance; 0
            omits this, and None takes 199 to compare ``samples`` with ``against``, else 0.
        save_images: write ``samples.npz`` for ADM's own evaluation suite.
        keep_features: keep the features in ``features/``.
        published: figures of the paper by name, for the table.
        tolerance: largest accepted differences from them, by name.
    """

    reference: str | None = None
    reference_split: Split = "val"
    reference_count: PositiveInt | None = None
    samples: str | None = None
    samples_split: Split = "val"
    training: str | None = None
    against: str | None = None
    image_size: PositiveInt | None = None
    network: str = "inception"
    network_name: Annotated[str, Check(_word)] = "own"
    network_steps: PositiveInt = 600
    weights: str | None = None
    weights_sha256: str | None = None
    inception_file: str | None = None
    count: Annotated[int, Ge(2), NOT_HUGE] | None = None  # a covariance needs two images
    labels: Literal["balanced", "random"] = "balanced"
    batch_size: PositiveInt = 64
    chunk_size: PositiveInt = 256
    seed: NonNegativeInt = 0
    repeats: Annotated[int, Ge(1), Le(MAX_REPEATS)] = 1
    resamples: NonNegativeInt | None = None
    save_images: bool = False
    keep_features: bool = False
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    tolerance: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.reference is None:
            raise ValueError("real images to compare with are needed: add reference=….")
        for name in [*self.published, *self.tolerance]:
            if name not in TITLES:
                raise ValueError(
                    f"evaluation.published: there is no score {name}; choose from "
                    f"{', '.join(TITLES)}."
                )
        if self.samples is not None and self.repeats > 1:
            raise ValueError(
                "evaluation.repeats needs a generator: evaluation.resamples=100 estimates the "
                "spread for a fixed set of samples."
            )
        if self.against is not None and self.samples is None:
            raise ValueError("against=… is compared with samples=…, which is missing.")

    @property
    def num_resamples(self) -> int:
        """Number of random parts or divisions, 0 if nothing is resampled."""
        if self.resamples is None:
            return 0 if self.against is None else NUM_DIVISIONS
        return self.resamples
