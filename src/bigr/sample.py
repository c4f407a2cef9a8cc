"""Images from a generator, and edited ones: ``python -m bigr.sample``.

All settings are in ``conf/sample.yaml`` and ``conf/application``.
"""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from bigr.cli import entry as cli
from bigr.cli.configuration import ConfigError, resolved

if TYPE_CHECKING:
    from bigr.inference.generate import Models
    from bigr.inference.preview import Film
    from bigr.inference.processes import Processes
    from bigr.sampling.sampler import Sampler

log = logging.getLogger(__name__)

SHOWN = 256
COLUMNS = 8
TERA = 1e12
FRAME_MS = 120
LAST_FRAMES = 10
WRITERS = 4
EDITS = ("inpaint", "outpaint", "edit", "interpolate", "enrich")


def main() -> None:
    """Command line."""
    cli.run("sample", job, after_sweep=draw_sweep)


def job(config: DictConfig) -> None:
    """Sample classes or edit a picture; images go to ``images/``, all of them to one picture."""
    with cli.user_errors():
        name = config.application.name
        if name not in EDITS and name != "generate":
            raise ConfigError(
                f"application.name={name}: it can be generate, {', '.join(EDITS)}; choose "
                "application=…."
            )
        settings = resolved(config)
        processes = cli.processes(config, is_shared=name == "generate")
    output = Path(processes.broadcast(str(config.paths.output)))
    if name == "generate":
        _generate(config, settings, output, processes)
    else:
        _edit(config, settings, output)


def draw_sweep(config: DictConfig) -> None:
    """After ``python -m bigr.sample -m …``: a picture with a row of images per job."""
    from bigr.evaluation.sweep_table import sample_grid

    try:
        log.info("%s", sample_grid(Path(str(config.hydra.sweep.dir)), COLUMNS))
    except (ValueError, OSError) as error:  # no job got so far
        log.error("no picture of the sweep: %s", error)


def _generate(
    config: DictConfig, settings: dict[str, Any], output: Path, processes: Processes
) -> None:
    """Images of classes, shared out over processes, one PNG each as soon as it is there."""
    from bigr.data.class_names import default_names, find_class
    from bigr.inference.devices import check_sampler, load_models
    from bigr.sampling.sampler import Sampler

    with cli.user_errors():
        names, per_class = _classes(config.application)
        models = load_models(
            config.generator, config.autoencoder, processes.device or config.device
        )
        known = models.generator.config.num_classes
        if not all(0 <= name <= known for name in names if isinstance(name, int)):
            raise ConfigError(
                f"application.classes={names}: this generator has the classes 0..{known - 1} "
                f"({known} is the null class), for example 'application.classes=[0,1,2]'."
            )
        classes = [
            name if name == known else find_class(name, known, default_names(known))
            for name in names
        ]
        sampler = Sampler(instantiate(config.sampler), instantiate(config.execution))
        check_sampler(models, sampler.config, sampler.execution)

    if processes.is_first:
        _begin(output, settings)
    labels = [label for label in classes for _ in range(per_class)]
    paths = [
        output / "images" / f"class_{label:04d}_seed_{config.seed + index:06d}.png"
        for index, label in enumerate(labels)
    ]
    began = time.perf_counter()
    _sample(config, models, sampler, labels, paths, processes)
    processes.barrier()
    took = time.perf_counter() - began
    flops = sum(processes.gather(sampler.flops))
    if processes.is_first:
        _report(output, models, len(labels), took, flops, processes.count)
        columns = per_class if per_class > 1 else min(len(classes), COLUMNS)
        _draw_grid(paths, columns, output / "samples.png")


def _begin(output: Path, settings: dict[str, Any]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(settings, output / "config.yaml")


def _edit(config: DictConfig, settings: dict[str, Any], output: Path) -> None:
    """One of the pipeline's other methods, whose arguments are those of ``application``."""
    from bigr.data.image_arrays import save_animation, save_grid, to_tensor
    from bigr.inference.devices import load_models
    from bigr.inference.preview import Film
    from bigr.pipeline import BiGRPipeline
    from bigr.sampling.conditioning import INTERPOLATION_RATIOS

    arguments = {str(key): value for key, value in settings["application"].items() if key != "name"}
    with cli.user_errors():
        models = load_models(config.generator, config.autoencoder, config.device)
        pipeline = BiGRPipeline(
            *models,
            device=config.device,
            batch_size=config.batch_size,
            execution=instantiate(config.execution),
        )
        if arguments.get("ratios", 0) is None:
            del arguments["ratios"]
        sampler = instantiate(config.sampler)
        _begin(output, settings)
        method = getattr(pipeline, config.application.name)
        count = arguments.get("num_variants", len(arguments.get("ratios", INTERPOLATION_RATIOS)))
        film = Film(models.autoencoder, count, COLUMNS) if config.animate else None
        pictures = method(**arguments, seed=config.seed, sampler=sampler, on_iteration=film)
    folder = output / "images"
    folder.mkdir(exist_ok=True)
    for index, picture in enumerate(pictures):
        picture.save(folder / f"{config.application.name}_{index:03d}.png")
    if config.application.name == "interpolate":
        there_and_back = [*pictures, *pictures[-2:0:-1]]
        save_animation(there_and_back, output, "interpolation", FRAME_MS)
    if film is not None:
        _save_film(film, output)
    import torch

    tensors = [to_tensor(picture) for picture in pictures]
    log.info("%s", save_grid(torch.stack(tensors), output / "samples.png", COLUMNS))


def _sample(
    config: DictConfig,
    models: Models,
    sampler: Sampler,
    labels: list[int],
    paths: list[Path],
    processes: Processes,
) -> None:
    """This process's share of the images: every so many batches one."""
    import torch

    from bigr.data.image_arrays import save_image
    from bigr.inference.generate import generate
    from bigr.inference.preview import Film
    from bigr.inference.progress import progress

    size = config.batch_size
    starts = range(processes.rank * size, len(labels), processes.count * size)
    total = sum(len(labels[start : start + size]) for start in starts)
    first = len(labels[:size])
    wants_film = config.animate and processes.is_first
    film = Film(models.autoencoder, first, COLUMNS) if wants_film else None
    # Compressing PNGs takes as long as a GPU takes for the next few images.
    with progress(total, "images") as advance, ThreadPoolExecutor(WRITERS) as writers:
        written: list[Future[Path]] = []
        for start in starts:
            images = generate(
                models,
                sampler,
                torch.tensor(labels[start : start + size]),
                seed=config.seed + start,
                batch_size=size,
                on_batch=advance if processes.is_first else None,
                on_iteration=film if start == 0 else None,
            )
            for writing in written:
                writing.result()  # a full disk ends it here
            written = [
                writers.submit(save_image, image, path)
                for image, path in zip(images, paths[start : start + size], strict=True)
            ]
        for writing in written:
            writing.result()
    if film is not None:
        _save_film(film, Path(config.paths.output))


def _save_film(film: Film, output: Path) -> None:
    from bigr.data.image_arrays import save_animation

    lingering = [*film.frames, *film.frames[-1:] * LAST_FRAMES]
    save_animation(lingering, output, "unmasking", FRAME_MS)
    log.info("%s", output / "unmasking.gif")


def _report(
    output: Path, models: Models, count: int, took: float, flops: float, num_processes: int
) -> None:
    """Say how fast it was, and add a line to ``speed.jsonl``."""
    import torch

    from bigr.inference.devices import device_name, peak_flops

    device = models.generator.device
    figures: dict[str, Any] = {
        "images": count,
        "seconds": took,
        "images_per_second": count / took,
        "tflop_per_second": flops / took / TERA,
        "device": device_name(device),
        "processes": num_processes,
        "torch": torch.__version__,
    }
    share = ""
    peak = peak_flops(device)
    if peak is not None:
        figures["share_of_peak"] = flops / took / peak / num_processes
        share = f" ({figures['share_of_peak']:.0%} of the GPU's bfloat16 peak)"
    log.info(
        "%d images in %.1f s: %.3g images/s, %.3g TFLOP/s%s",
        *(count, took, count / took, flops / took / TERA, share),
    )
    with (output / "speed.jsonl").open("a") as file:
        file.write(json.dumps(figures) + "\n")


def _draw_grid(paths: list[Path], columns: int, target: Path) -> None:
    """The first images, row by row."""
    import torch

    from bigr.data.image_arrays import load_image, save_grid

    images = torch.stack([load_image(path) for path in paths[:SHOWN]])
    log.info("%s", save_grid(images, target, columns))


def _classes(application: DictConfig) -> tuple[list[int | str], int]:
    """Classes, by number or name, and images of each."""
    classes, per_class = application.classes, application.num_per_class
    if isinstance(classes, int | str):
        classes = [classes]
    is_list = isinstance(classes, list | ListConfig) and len(classes) > 0
    if not is_list or not all(isinstance(label, int | str) for label in classes):
        raise ConfigError(
            "application.classes must be a list of numbers or names such as [207,'tabby'], got "
            f"{classes!r}."
        )
    if not isinstance(per_class, int) or per_class < 1:
        raise ConfigError(
            f"application.num_per_class must be a positive integer, got {per_class!r}."
        )
    return list(classes), per_class


if __name__ == "__main__":
    main()
