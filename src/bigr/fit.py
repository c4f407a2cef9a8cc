"""Train on a folder of images, from the B-AE to a report: ``python -m bigr.fit``."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

from bigr.cli import entry as cli
from bigr.cli import fit_progress, fitting
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
            images = fitting.look_at(config.images)
            steps = fitting.plan(
                images,
                output,
                image_size=config.resolution.image_size,
                size=fitting.choose_size(config.size),
                autoencoder_steps=config.autoencoder_steps,
                generator_steps=config.generator_steps,
                pretrained=config.pretrained,
                seed=config.seed,
            )
            progress = fit_progress.FitProgress(output, steps)
        log.info("%s", images)
        for number, step in enumerate(steps, start=1):
            log.info("step %d of %d: %s\n  %s", number, len(steps), step.purpose, step.command)
            if progress.is_finished(step):
                log.info("finished before")
                continue
            fit_progress.run_step(step)
            progress.finish(step)
        from bigr.cli.fit_report import write_report

        with cli.user_errors():
            log.info("report: %s", write_report(images, steps, output))
        words = fitting.override("pretrained", output)
        log.info("next: %s", fitting.command_line("bigr.demo", words))


if __name__ == "__main__":
    main()
