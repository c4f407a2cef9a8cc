"""After the last job of a sweep: write its table and plots, and repeat the best job."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bigr.cli.tables import print_tables

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

CONFIRMED = "confirmed"


def finish(config: DictConfig) -> None:
    """Summarise the sweep of ``python -m bigr.evaluate -m …``, even if jobs failed.

    Args:
        config: the configuration that the jobs share.
    """
    from bigr.evaluation.sweep_table import read_jobs, summarise, swept_keys, table

    folder = Path(str(config.hydra.sweep.dir))
    try:
        files = summarise(folder)
    except (ValueError, OSError) as error:  # no job has begun
        log.error("no table of the sweep: %s", error)
        return
    jobs = read_jobs(folder)
    headings, rows = table(jobs)
    # Terminals are narrow: the headings can be wrapped between words, and the numbers are short.
    words = [heading.rsplit(".", 1)[-1].replace("_", " ") for heading in headings]
    print_tables([(words, table(jobs, digits=4)[1])], lead=1 + len(swept_keys(jobs)))
    log.info("table and plots in %s: %s", folder, ", ".join(path.name for path in files))
    unfinished = [row[0] for row in rows if row[-1] != "done"]
    if unfinished:
        log.warning(
            "not finished: %s; to run only these, repeat the command with hydra.sweep.dir=%s",
            ", ".join(unfinished),
            folder,
        )
    _send_table(config, headings, rows)
    if config.confirm is not None and not unfinished:
        _confirm(config, folder)


def _send_table(config: DictConfig, headings: list[str], rows: list[list[str]]) -> None:
    """Send the table to W&B, if the configuration has that logger."""
    from hydra.utils import instantiate

    for name, node in (config.get("logger") or {}).items():
        if name == "wandb" and node:
            logger = instantiate(node)
            logger.log_table("sweep", columns=headings, data=rows)
            logger.experiment.finish()


def _confirm(config: DictConfig, folder: Path) -> None:
    """Repeat the best job with ``config.confirm`` images."""
    from bigr.evaluation.sweep_table import best_job, read_jobs

    if config.optimized_metric is None:
        log.error(
            "confirm=%s needs optimized_metric=…, the figure by which the best job is chosen",
            config.confirm,
        )
        return
    job = best_job(read_jobs(folder), config.optimized_metric)
    shared = list(config.hydra.overrides.task)
    own = [f"{key}={value}" for key, value in job.overrides.items()]
    log.info("repeating the best job with %d images: %s", config.confirm, " ".join(own))
    command = [sys.executable, "-m", "bigr.evaluate", *_without_sweeps(shared, job.overrides), *own]
    command += [
        f"evaluation.count={config.confirm}",
        f"hydra.run.dir={folder / CONFIRMED}",
        "hydra.mode=RUN",
    ]
    subprocess.run(command, check=False)


def _without_sweeps(overrides: list[str], own: dict[str, str]) -> list[str]:
    """Return the overrides that the job does not set itself."""
    return [item for item in overrides if item.split("=")[0].lstrip("+") not in {*own, "sweep"}]
