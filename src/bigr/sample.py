"""Generate and edit images: ``python -m bigr.sample``.

All settings are in ``conf/sample.yaml`` and ``conf/application``. An application is a method of
:class:`bigr.BiGRPipeline`, or any function of a pipeline that takes ``seed``, ``sampler`` and
``on_iteration`` and returns images.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import time
from pathlib import Path
from typing import Any

from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf

from bigr.cli import entry as cli
from bigr.cli import image_files, next_steps, reports
from bigr.cli.configuration import resolved
from bigr.cli.web_settings import as_in_web_app
from bigr.schema import ExistingPath, NonNegativeInt, PositiveInt

log = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class SampleSettings(cli.ProcessSettings):
    """The values at the top level of ``conf/sample.yaml``."""

    pretrained: str | None
    released: dict[str, Any]
    generator: ExistingPath
    autoencoder: ExistingPath
    batch_size: PositiveInt
    settings: ExistingPath | None
    seed: NonNegativeInt
    animate: bool


def main() -> None:
    """Run the command from its arguments."""
    cli.run("sample", job, settings=SampleSettings, after_sweep=draw_sweep)


def job(config: DictConfig) -> None:
    """Write the images of ``config.application`` to ``images/``, and a grid of the first ones."""
    with cli.run_folder(config):
        _sample(config)


def _sample(config: DictConfig) -> None:
    with cli.user_errors():
        # 1. The processes that share the work; an application can be shared if it takes a share.
        given = None
        if config.settings is not None:
            given, config = as_in_web_app(config)
        settings = resolved(config)
        sampler = instantiate(config.sampler)  # its mistakes are found before torch is imported
        method = get_method(config.application._target_)
        is_shared = "share" in inspect.signature(method).parameters
        processes = cli.processes(config, is_shared=is_shared)
        output = Path(processes.broadcast(str(config.paths.output)))
        # 2. The models, and the application.
        from bigr.pipeline import BiGRPipeline

        pipeline = BiGRPipeline.from_files(
            config.generator,
            config.autoencoder,
            device=processes.device or config.device,
            batch_size=config.batch_size,
            execution=instantiate(config.execution),
        )
        device = pipeline.models.generator.device
        if not is_shared:  # all images are returned at the end, so iterations are counted instead
            pipeline.set_progress_bar_config(disable=None, unit=" iterations")  # on a terminal
        if given is not None:
            given.check_models(pipeline)
        application = instantiate(config.application, _convert_="all")
        film = None
        if config.animate and processes.is_first:
            film = image_files.make_film(pipeline, application.keywords, is_shared)
        if processes.is_first:
            output.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(settings, output / "config.yaml")
            log.info("sampling with %s on %s; results: %s", config.generator, device, output)
        # 3. Mistakes in the arguments are found here; a shared application then begins to sample
        # with the first image, the others return all images.
        began = time.perf_counter()
        share = {"share": (processes.rank, processes.count)} if is_shared else {}
        pictures = application(
            pipeline, seed=config.seed, sampler=sampler, on_iteration=film, **share
        )
    # 4. Files, and how long it took.
    mine = image_files.write_images(pictures, output / "images", method.__name__, config.seed, film)
    processes.barrier()
    took = time.perf_counter() - began
    flops = sum(processes.gather(pipeline.sampler.flops))
    paths = dict(sorted(pair for part in processes.gather(mine) for pair in part.items()))
    if processes.is_first:
        reports.log_speed(output, device, len(paths), took, flops, processes.count)
        image_files.draw(list(paths.values()), output, application.keywords, film)
        log.info("next: %s", next_steps.after_sampling(config, list(paths.values())))


def draw_sweep(config: DictConfig) -> None:
    """After ``python -m bigr.sample -m …``, draw a picture with a row of images per job."""
    from bigr.evaluation.sweep_table import sample_grid

    try:
        picture = sample_grid(Path(str(config.hydra.sweep.dir)), image_files.COLUMNS)
        log.info("overview of all jobs: %s", picture)
    except (ValueError, OSError) as error:  # no job has written images
        log.error("no picture of the sweep: %s", error)


if __name__ == "__main__":
    main()
