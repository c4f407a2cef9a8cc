"""What entry points do with the result of an evaluation: files, a table, loggers."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from bigr.cli.configuration import ConfigError

if TYPE_CHECKING:
    from bigr.evaluation.report import Evaluation

log = logging.getLogger(__name__)

METRICS = "metrics.json"


def write(result: Evaluation, output: Path, **more: Any) -> dict[str, Any]:
    """Write pictures, plots and other files, then ``metrics.json``; print the table.

    Args:
        result: what to write.
        output: folder.
        more: for ``metrics.json``.

    Returns:
        What is in ``metrics.json``.
    """
    from rich.console import Console

    from bigr.data.image_arrays import save_grid
    from bigr.evaluation import plots

    for name, (images, columns) in result.pictures.items():
        log.info("%s", save_grid(images, output / name, columns))
    for name, write in result.files.items():
        write(output / name)
        log.info("%s", output / name)
    for name, curve in result.curves.items():
        line = {"": {float(key): value for key, value in curve.points.items()}}
        if plots.lines(output / name, line, x=curve.x, y=curve.y, log_x=curve.is_log):
            log.info("%s", output / name)
    metrics = {**result.metrics, "figures": result.figures, **more}
    report = output / METRICS
    part = output / f".{METRICS}.part"
    part.write_text(json.dumps(metrics, indent=2) + "\n")
    part.replace(report)
    for clean in result.cleanup:
        clean()
    log.info("%s", report)
    # A log file is no terminal: give the table the width that its words need.
    width = max(100, shutil.get_terminal_size().columns)
    Console(width=width).print(_table(result))
    return metrics


def log_to(config: DictConfig, settings: dict[str, Any], result: Evaluation, output: Path) -> None:
    """Send figures, settings and pictures to the loggers of ``config``, if there are any."""
    nodes = [node for node in (config.get("logger") or {}).values() if node]
    if not nodes:
        return
    from lightning.pytorch.loggers import WandbLogger

    for node in nodes:
        logger = instantiate(node)
        logger.log_hyperparams(settings)
        logger.log_metrics(result.figures)
        if isinstance(logger, WandbLogger):
            for name in result.pictures:
                logger.log_image(Path(name).stem, [str(output / name)])
            logger.experiment.finish()  # or the next job of a sweep would go on with it
        else:
            logger.save()


def figure(name: str | None, metrics: dict[str, Any]) -> float | None:
    """A figure by its name, or by dotted ``name`` in nested ``metrics``; None without a name.

    Raises:
        ConfigError: if there is no such figure.
    """
    if name is None:
        return None
    if name in metrics["figures"]:
        return float(metrics["figures"][name])
    value: Any = metrics
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            raise ConfigError(
                f"optimized_metric={name}: there is no such figure in metrics.json; there are "
                f"{', '.join(metrics['figures'])}."
            )
        value = value[part]
    return float(value)


def _table(result: Evaluation) -> Any:
    from rich.table import Table

    table = Table()
    table.add_column("figure")
    for name in result.columns:
        table.add_column(name, justify="right")
    for row in result.rows:
        table.add_row(*row)
    return table
