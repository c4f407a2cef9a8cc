"""Train on a folder of images, from the B-AE to a report: ``python -m bigr.fit``."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

from bigr.cli import entry as cli
from bigr.cli import fit_images, fit_progress, fitting
from bigr.cli.command_words import command_line, override
from bigr.schema import ExistingPath, NonNegativeInt, PositiveInt

log = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class FitSettings:
    """The values at the top level of ``conf/fit.yaml``."""

    images: ExistingPath
    size: Literal["auto", "small", "large"]
    autoencoder_steps: PositiveInt | None
    generator_steps: PositiveInt | None
    pretrained: str | None
    seed: NonNegativeInt


def main() -> None:
    """Run the command from its arguments."""
    cli.run("fit", job, settings=FitSettings)


def job(config: DictConfig) -> None:
    """Run the commands that are not finished yet, and write ``report.md``."""
    with cli.run_folder(config) as output:
        # The commands are easier to read and to copy with relative paths.
        output = output.relative_to(Path.cwd()) if output.is_relative_to(Path.cwd()) else output
        with cli.user_errors():
            images = fit_images.look_at(config.images)
            size = fitting.choose_size(config.size)
            steps = fitting.plan(
                images,
                output,
                image_size=config.resolution.image_size,
                size=size,
                autoencoder_steps=config.autoencoder_steps,
                generator_steps=config.generator_steps,
                pretrained=config.pretrained,
                seed=config.seed,
            )
            progress = fit_progress.FitProgress(output, steps, str(images))
            if not progress.finished:
                fit_images.check_images(images, config.resolution.image_size)
        log.info("%s", images)
        log.info("size=%s, for %s; results: %s", size, fitting.MACHINES[size], output)
        for number, step in enumerate(steps, start=1):
            log.info("step %d of %d: %s\n  %s", number, len(steps), step.purpose, step.command)
            if progress.is_finished(step):
                log.info("already finished")
                continue
            fit_progress.run_step(step)
            progress.finish(step)
        from bigr.cli.fit_report import write_report

        with cli.user_errors():
            log.info("report: %s", write_report(images, steps, output))
        log.info("next: %s", command_line("bigr.demo", override("pretrained", output)))


if __name__ == "__main__":
    main()
