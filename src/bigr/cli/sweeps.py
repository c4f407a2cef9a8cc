"""After the last job of a sweep: its table and plots, and its best job repeated."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

CONFIRMED = "confirmed"


def finish(config: DictConfig) -> None:
    """What ``python -m bigr.evaluate -m …`` does after its last job, whatever became of the jobs.

    Args:
        config: that the jobs share.
    """
    from rich.console import Console
    from rich.table import Table

    from bigr.evaluation.sweep_table import read_jobs, summarise, table

    folder = Path(str(config.hydra.sweep.dir))
    try:
        files = summarise(folder)
    except (ValueError, OSError) as error:  # no job had begun
        log.error("no table of the sweep: %s", error)
        return
    headings, rows = table(read_jobs(folder))
    shown = Table(*headings)
    for row in rows:
        shown.add_row(*row)
    Console(width=max(120, 14 * len(headings))).print(shown)
    log.info("%s", " ".join(path.name for path in files))
    unfinished = [row[0] for row in rows if row[-1] != "done"]
    if unfinished:
        log.warning(
            "not finished: %s; the same command with hydra.sweep.dir=%s does these alone",
            ", ".join(unfinished),
            folder,
        )
    _send_table(config, headings, rows)
    if config.confirm is not None and not unfinished:
        _confirm(config, folder)


def _send_table(config: DictConfig, headings: list[str], rows: list[list[str]]) -> None:
    """The table to W&B, if that logs."""
    from hydra.utils import instantiate

    for name, node in (config.get("logger") or {}).items():
        if name == "wandb" and node:
            logger = instantiate(node)
            logger.log_table("sweep", columns=headings, data=rows)
            logger.experiment.finish()


def _confirm(config: DictConfig, folder: Path) -> None:
    """Repeat the best job with more images."""
    from bigr.evaluation.sweep_table import best_job, read_jobs

    if config.optimized_metric is None:
        log.error("confirm=%s needs optimized_metric: the best by which figure?", config.confirm)
        return
    job = best_job(read_jobs(folder), config.optimized_metric)
    shared = list(config.hydra.overrides.task)
    own = [f"{key}={value}" for key, value in job.overrides.items()]
    log.info("the best, again with %d images: %s", config.confirm, " ".join(own))
    command = [sys.executable, "-m", "bigr.evaluate", *_without_sweeps(shared, job.overrides), *own]
    command += [
        f"evaluation.count={config.confirm}",
        f"hydra.run.dir={folder / CONFIRMED}",
        "hydra.mode=RUN",
    ]
    subprocess.run(command, check=False)


def _without_sweeps(overrides: list[str], own: dict[str, str]) -> list[str]:
    """Those that the job doesn't set itself."""
    return [item for item in overrides if item.split("=")[0].lstrip("+") not in {*own, "sweep"}]
