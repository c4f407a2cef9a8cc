"""Generate and edit images: ``python -m bigr.sample``.

All settings are in ``conf/sample.yaml`` and ``conf/application``. An application is a method of
:class:`bigr.BiGRPipeline`, or any function of a pipeline that takes ``seed``, ``sampler`` and
``on_iteration`` and returns images.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf

from bigr.cli import entry as cli
from bigr.cli import reports
from bigr.cli.configuration import resolved

if TYPE_CHECKING:
    from bigr.inference.preview import Film
    from bigr.pipeline import BiGRPipeline

log = logging.getLogger(__name__)

SHOWN = 256
"""Images in ``samples.png``."""
COLUMNS = 8
FRAME_MS = 120
LAST_FRAMES = 10
"""How often the last frame of the animation is repeated."""
WRITERS = 4
"""Threads that write PNGs: compressing takes as long as generating the next images on a GPU."""
MOST_WAITING = 256
"""Images that may wait for these threads."""


def main() -> None:
    """Run the command line."""
    cli.run("sample", job, after_sweep=draw_sweep)


def job(config: DictConfig) -> None:
    """Write the images of ``config.application`` to ``images/``, and a grid of the first ones."""
    with cli.user_errors():
        settings = resolved(config)
        method = get_method(config.application._target_)
        is_shared = "share" in inspect.signature(method).parameters
        processes = cli.processes(config, is_shared=is_shared)
        output = Path(processes.broadcast(str(config.paths.output)))
        from bigr.pipeline import BiGRPipeline

        pipeline = BiGRPipeline.from_files(
            config.generator,
            config.autoencoder,
            device=processes.device or config.device,
            batch_size=config.batch_size,
            execution=instantiate(config.execution),
        )
        application = instantiate(config.application, _convert_="all")
        sampler = instantiate(config.sampler)
        film = None
        if config.animate and processes.is_first:
            film = _film(pipeline, application.keywords, is_shared)
        if processes.is_first:
            output.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(settings, output / "config.yaml")
        began = time.perf_counter()
        share = {"share": (processes.rank, processes.count)} if is_shared else {}
        pictures = application(
            pipeline, seed=config.seed, sampler=sampler, on_iteration=film, **share
        )
    mine = _write(pictures, output / "images", method.__name__, config.seed, film)
    processes.barrier()
    took = time.perf_counter() - began
    flops = sum(processes.gather(pipeline.sampler.flops))
    paths = dict(sorted(pair for part in processes.gather(mine) for pair in part.items()))
    if processes.is_first:
        device = pipeline.models.generator.device
        reports.log_speed(output, device, len(paths), took, flops, processes.count)
        _draw(list(paths.values()), output, application.keywords, film)


def _film(pipeline: BiGRPipeline, arguments: dict[str, Any], is_shared: bool) -> Film:
    """Return the recorder of the animation: of the first batch if the images come in many."""
    from bigr.inference.preview import Film
    from bigr.sampling.conditioning import INTERPOLATION_RATIOS

    ratios = arguments.get("ratios") or INTERPOLATION_RATIOS
    count = None if is_shared else arguments.get("num_variants", len(ratios))
    return Film(pipeline.models.autoencoder, count, COLUMNS)


def _write(
    pictures: Iterable[Any], folder: Path, prefix: str, seed: int, film: Film | None
) -> dict[int, Path]:
    """Write images as they come, in threads, and return the paths by the number of the image."""
    from bigr.data.image_arrays import save_picture
    from bigr.inference.progress import progress
    from bigr.pipeline import GeneratedPicture

    paths: dict[int, Path] = {}
    waiting: deque[Future[Path]] = deque()
    with progress(None, "images") as advance, ThreadPoolExecutor(WRITERS) as writers:
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


def _draw(paths: list[Path], output: Path, arguments: dict[str, Any], film: Film | None) -> None:
    """Draw the grid of the first images, and the animations."""
    import torch

    from bigr.data.image_arrays import load_image, load_picture, save_animation, save_grid

    images = torch.stack([load_image(path) for path in paths[:SHOWN]])
    columns = arguments.get("num_per_class", 1)
    log.info("%s", save_grid(images, output / "samples.png", columns if columns > 1 else COLUMNS))
    if "ratios" in arguments:  # the images are a sequence
        pictures = [load_picture(path) for path in paths]
        save_animation([*pictures, *pictures[-2:0:-1]], output, "interpolation", FRAME_MS)
    if film is not None:
        lingering = [*film.frames, *film.frames[-1:] * LAST_FRAMES]
        log.info("%s", save_animation(lingering, output, "unmasking", FRAME_MS)[0])


def draw_sweep(config: DictConfig) -> None:
    """After ``python -m bigr.sample -m …``, draw a picture with a row of images per job."""
    from bigr.evaluation.sweep_table import sample_grid

    try:
        log.info("%s", sample_grid(Path(str(config.hydra.sweep.dir)), COLUMNS))
    except (ValueError, OSError) as error:  # no job has written images
        log.error("no picture of the sweep: %s", error)


if __name__ == "__main__":
    main()
