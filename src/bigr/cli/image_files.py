"""Files of ``python -m bigr.sample``: PNGs written in threads, the grid, the animations."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bigr.inference.preview import Film
    from bigr.pipeline import BiGRPipeline

log = logging.getLogger(__name__)

SHOWN = 256
"""Number of images in ``samples.png``."""
COLUMNS = 8
FRAME_MS = 120
LAST_FRAMES = 10
"""How often the last frame of the animation is repeated."""
WRITERS = 4
"""Number of threads that write PNGs; compressing takes as long as generating images on a GPU."""
MOST_WAITING = 256
"""Largest number of images that wait for these threads."""


def make_film(pipeline: BiGRPipeline, arguments: dict[str, Any], is_shared: bool) -> Film:
    """Return the recorder of the animation: of the first batch if there are several."""
    from bigr.inference.preview import Film
    from bigr.sampling.conditioning import INTERPOLATION_RATIOS

    ratios = arguments.get("ratios") or INTERPOLATION_RATIOS
    count = None if is_shared else arguments.get("num_variants", len(ratios))
    return Film(pipeline.models.autoencoder, count, COLUMNS)


def write_images(
    pictures: Iterable[Any], folder: Path, prefix: str, seed: int, film: Film | None
) -> dict[int, Path]:
    """Write images in threads while they are generated; return the paths by image number."""
    from bigr.data.image_arrays import save_picture
    from bigr.inference.progress import progress
    from bigr.pipeline import GeneratedPicture

    paths: dict[int, Path] = {}
    waiting: deque[Future[Path]] = deque()
    # A list is complete already, so only the images of an iterator are counted.
    is_complete = isinstance(pictures, list)
    counting: AbstractContextManager[Callable[[int], object]]
    counting = nullcontext(lambda _: None) if is_complete else progress(None, "images")
    with counting as advance, ThreadPoolExecutor(WRITERS) as writers:
        for index, found in enumerate(pictures):
            name = f"{prefix}_{index:03d}"
            if isinstance(found, GeneratedPicture):
                index = found.seed - seed
                name, found = f"class_{found.class_id:04d}_seed_{found.seed:06d}", found.picture
            if film is not None:
                film.is_over = True
            paths[index] = folder / f"{name}.png"
            waiting.append(writers.submit(save_picture, found, paths[index]))
            if len(waiting) > MOST_WAITING:
                waiting.popleft().result()  # a full disk ends the command here
            advance(1)
        for writing in waiting:
            writing.result()
    return paths


def draw(paths: list[Path], output: Path, arguments: dict[str, Any], film: Film | None) -> None:
    """Draw the grid of the first images, and the animations."""
    import torch

    from bigr.data.image_arrays import load_image, load_picture, save_animation, save_grid

    images = torch.stack([load_image(path) for path in paths[:SHOWN]])
    columns = arguments.get("num_per_class", 1)
    grid = save_grid(images, output / "samples.png", columns if columns > 1 else COLUMNS)
    log.info("overview: %s", grid)
    if "ratios" in arguments:  # the images are a sequence
        pictures = [load_picture(path) for path in paths]
        both_ways = [*pictures, *pictures[-2:0:-1]]
        log.info("animation: %s", save_animation(both_ways, output, "interpolation", FRAME_MS)[0])
    if film is not None:
        lingering = [*film.frames, *film.frames[-1:] * LAST_FRAMES]
        log.info("animation: %s", save_animation(lingering, output, "unmasking", FRAME_MS)[0])
    log.info("all images: %s", output / "images")
