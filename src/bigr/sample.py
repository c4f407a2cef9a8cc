"""Images from a generator: ``python -m bigr.sample``, all settings in ``conf/sample.yaml``."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from bigr import cli
from bigr.config import ConfigError, resolved

if TYPE_CHECKING:
    from bigr.evaluation.generate import Models
    from bigr.evaluation.processes import Processes
    from bigr.sampling.sampler import Sampler

log = logging.getLogger(__name__)

SHOWN = 256
COLUMNS = 8
TERA = 1e12


def main() -> None:
    """Command line."""
    cli.run("sample", job)


def job(config: DictConfig) -> None:
    """Sample classes; write one PNG an image, as soon as it is there, and ``samples.png``."""
    with cli.user_errors():
        classes, per_class = _classes(config.application)
        settings = resolved(config)
        processes = cli.processes(config)

    from bigr.evaluation.devices import check_sampler, load_models
    from bigr.sampling.sampler import Sampler

    with cli.user_errors():
        models = load_models(
            config.generator, config.autoencoder, processes.device or config.device
        )
        known = models.generator.config.num_classes
        if not all(0 <= label <= known for label in classes):
            raise ConfigError(
                f"application.classes={classes}: this generator has the classes 0..{known - 1} "
                f"({known} is the null class), for example 'application.classes=[0,1,2]'."
            )
        sampler = Sampler(instantiate(config.sampler))
        check_sampler(models, sampler.config)

    output = Path(processes.broadcast(str(config.paths.output)))
    if processes.is_first:
        output.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(settings, output / "config.yaml")
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

    from bigr.data.images import save_image
    from bigr.evaluation.generate import generate
    from bigr.evaluation.progress import progress

    size = config.batch_size
    starts = range(processes.rank * size, len(labels), processes.count * size)
    total = sum(len(labels[start : start + size]) for start in starts)
    with progress(total, "images") as advance:
        for start in starts:
            images = generate(
                models,
                sampler,
                torch.tensor(labels[start : start + size]),
                seed=config.seed + start,
                batch_size=size,
                on_batch=advance if processes.is_first else None,
            )
            for image, path in zip(images, paths[start : start + size], strict=True):
                save_image(image, path)


def _report(
    output: Path, models: Models, count: int, took: float, flops: float, num_processes: int
) -> None:
    """Say how fast it was, and add a line to ``speed.jsonl``."""
    import torch

    from bigr.evaluation.devices import device_name, peak_flops

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

    from bigr.data.images import load_image, save_grid

    images = torch.stack([load_image(path) for path in paths[:SHOWN]])
    log.info("%s", save_grid(images, target, columns))


def _classes(application: DictConfig) -> tuple[list[int], int]:
    """Class ids and images of each."""
    classes, per_class = application.classes, application.num_per_class
    if isinstance(classes, int):
        classes = [classes]
    is_list = isinstance(classes, list | ListConfig) and len(classes) > 0
    if not is_list or not all(isinstance(label, int) for label in classes):
        raise ConfigError(
            f"application.classes must be a list of numbers such as [207,360], got {classes!r}."
        )
    if not isinstance(per_class, int) or per_class < 1:
        raise ConfigError(
            f"application.num_per_class must be a positive integer, got {per_class!r}."
        )
    return list(classes), per_class


if __name__ == "__main__":
    main()
