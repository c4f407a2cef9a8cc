"""The images that ``bigr.fit`` trains on, which are looked at before anything is run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bigr.cli.configuration import ConfigError

MAX_CHECKED = 20_000
"""Number of images that are decoded before training, which takes less than a minute."""
MIN_IMAGES = 10
"""The classifier that scores the samples needs as many."""
MAX_NAMED = 5
"""Number of broken images that are named."""


@dataclasses.dataclass(frozen=True)
class Images:
    """What is known about the images before anything is run."""

    root: str
    classes: tuple[str, ...]
    num_train: int
    num_val: int

    def __str__(self) -> str:
        names = ", ".join(self.classes[:5]) + (", …" if len(self.classes) > 5 else "")
        return (
            f"{self.root}: {self.num_train} images for training, {self.num_val} for validation, "
            f"{len(self.classes)} classes ({names})"
        )


def look_at(root: str) -> Images:
    """Find the images of a folder.

    Raises:
        ValueError: if there are none, or their format is not known.
    """
    from bigr.data.sources.find import find_splits

    root = str(Path(root).expanduser())
    try:
        train, val = find_splits(Path(root))
    except ValueError as error:
        message = str(error).replace("data.root=", "images=")
        named = message if "images=" in message else f"images={root}: {message}"
        raise ConfigError(named) from error
    return Images(root, tuple(train.classes), len(train), len(val))


def check_images(images: Images, image_size: int) -> None:
    """Check the number of images, and decode them, before anything is trained.

    More than ``MAX_CHECKED`` images would take too long; training then reports broken ones.

    Raises:
        ValueError: if there are too few images, or some are broken; the message names the first
            ones.
    """
    from bigr.data.decoding import BrokenImageError
    from bigr.data.image_dataset import ImageSet
    from bigr.data.sources.find import find_any, find_splits

    total = images.num_train + images.num_val
    scored = len(find_any(Path(images.root), "val"))
    if scored < MIN_IMAGES:
        raise ConfigError(
            f"images={images.root} has {scored} images with which samples can be compared, but at "
            f"least {MIN_IMAGES} are needed: add images, or remove the folder val/ if there is one."
        )
    if total > MAX_CHECKED:
        return
    broken = []
    for source in find_splits(Path(images.root)):
        pictures = ImageSet(source, image_size)
        for index in range(len(pictures)):
            try:
                pictures.views(index, ("center",))
            except BrokenImageError as error:
                broken.append(f"{pictures.name(index)} ({error})")
    if broken:
        verb, more = "is" if len(broken) == 1 else "are", ", …" if len(broken) > MAX_NAMED else ""
        raise ConfigError(
            f"images={images.root}: {len(broken)} of {total} images {verb} broken: "
            f"{', '.join(broken[:MAX_NAMED])}{more}. Repair or remove broken images."
        )
