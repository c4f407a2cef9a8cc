"""An application: a function of a pipeline that returns images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge
from PIL import Image, ImageStat

from bigr import BiGRPipeline


def most_contrast(
    pipeline: BiGRPipeline,
    classes: Sequence[int],
    *,
    num_candidates: Annotated[int, Ge(1)] = 4,
    **settings: Any,
) -> list[Image.Image]:
    """Return the image of each class that has the most contrast.

    Args:
        pipeline: generates the images.
        classes: by number.
        num_candidates: number of images of each class to choose from.
        settings: ``seed``, ``sampler`` and ``on_iteration``, passed on to the pipeline.
    """
    found = pipeline.generate(list(classes), num_per_class=num_candidates, **settings)
    groups = (found[i : i + num_candidates] for i in range(0, len(found), num_candidates))
    return [max(group, key=contrast) for group in groups]


def contrast(picture: Image.Image) -> float:
    """Return the standard deviation of the grey levels of an image."""
    return ImageStat.Stat(picture.convert("L")).stddev[0]
